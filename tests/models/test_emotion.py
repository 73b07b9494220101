import importlib.util
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emotivetalk.models.emotion import (
    EMOTIONS,
    NEUTRAL,
    NUM_LEVELS,
    EmotionImage,
    EmotionKey,
    EmotionLabel,
    EmotionLogits,
    EmotionMapping,
    EmotionSpeech,
    EmotionText,
    EmotionTrack,
    EmotionVideo,
    emotion_index,
    emotion_source,
)
from emotivetalk.models.sentence_encoder import PACKAGE, SentenceEncoder
from emotivetalk.request import (
    MAX_TEXT_LENGTH,
    MAX_TRACK_KEYS,
    ImageEmotion,
    LabelEmotion,
    SpeechEmotion,
    TextEmotion,
    parse_track,
)
from emotivetalk.timebase import FRAME_RATE_HZ

DIM = 6


@pytest.fixture
def mapping() -> EmotionMapping:
    torch.manual_seed(0)
    mapping = EmotionMapping(dim_expression=DIM, dim_text=12, dim_text_hidden=16, dim_speech=8).eval()
    mapping.set_prototypes(torch.randn(len(EMOTIONS), NUM_LEVELS, DIM))
    return mapping


def track(*times_s: float, fade_s: float = 0.5) -> EmotionTrack:
    return EmotionTrack(tuple(EmotionKey(time_s, EmotionLabel("happy")) for time_s in times_s), fade_s)


# sources


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("hapy", "happy"), ("Happy", "happy"), ("anger", "angry"), ("suprised", "surprised"), ("disgust", "disgusted")],
)
def test_an_unknown_emotion_names_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(ValueError, match=f"no emotion '{wrong}'. Did you mean .*{right}"):
        EmotionLabel(wrong)


def test_an_error_for_an_unrelated_emotion_lists_all() -> None:
    with pytest.raises(ValueError, match=", ".join(EMOTIONS)):
        emotion_index("zzz")


@pytest.mark.parametrize("intensity", [-0.01, 1.01, math.nan, math.inf])
def test_intensity_is_between_zero_and_one(intensity: float) -> None:
    with pytest.raises(ValueError, match="intensity is"):
        EmotionLabel("sad", intensity)


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        EmotionText(text)


def test_a_long_text_is_refused_with_the_limit() -> None:
    with pytest.raises(ValueError, match=f"limit is {MAX_TEXT_LENGTH}"):
        EmotionText("x" * (MAX_TEXT_LENGTH + 1))


def test_pixels_are_checked() -> None:
    EmotionImage(torch.zeros(3, 4, 4))
    EmotionVideo(torch.zeros(2, 3, 4, 4))
    with pytest.raises(ValueError, match="not finite"):
        EmotionImage(torch.full((3, 4, 4), math.nan))
    with pytest.raises(ValueError, match="at least one"):
        EmotionVideo(torch.zeros(0, 3, 4, 4))


# tracks


def test_emotions_of_requests_become_sources() -> None:
    assert emotion_source(None) is None
    assert emotion_source(LabelEmotion(emotion="sad", intensity=0.25)) == EmotionLabel("sad", 0.25)
    assert emotion_source(TextEmotion(text="Be calm")) == EmotionText("Be calm")
    assert emotion_source(SpeechEmotion()) == EmotionSpeech()
    read = emotion_source(
        parse_track([{"time_s": 0, "emotion": "happy", "intensity": 0.8}, {"time_s": 2.5, "text": "Speak"}])
    )
    assert read == EmotionTrack((EmotionKey(0.0, EmotionLabel("happy", 0.8)), EmotionKey(2.5, EmotionText("Speak"))))
    with pytest.raises(ValueError, match="needs its file"):
        emotion_source(ImageEmotion())


def test_wrong_tracks_are_refused() -> None:
    for times_s, message in (((), "no keys"), ((2, 1), "Sort the keys"), (range(MAX_TRACK_KEYS + 1), "limit is 1000")):
        with pytest.raises(ValueError, match=message):
            track(*map(float, times_s))
    with pytest.raises(ValueError, match="0 s or later"):
        track(-1.0)


@settings(deadline=None)
@given(
    times_s=st.lists(st.floats(0, 4, allow_nan=False), min_size=1, max_size=6, unique=True).map(sorted),
    fade_s=st.floats(0.3, 2),
)
def test_weights_are_a_continuous_partition(times_s: list[float], fade_s: float) -> None:
    weights = track(*times_s, fade_s=fade_s).weights(125)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(125))
    assert (weights >= 0).all()
    # smoothstep's steepest slope is 1.5 / fade_s; fades that overlap add up
    assert weights.diff(dim=0).abs().max() <= len(times_s) * 1.5 / fade_s / FRAME_RATE_HZ + 1e-5


def test_a_fade_begins_at_the_time_of_its_key_and_ends_a_fade_later() -> None:
    weights = track(0.0, 1.0, fade_s=0.4).weights(50)[:, 1]
    middles_s = (torch.arange(50) + 0.5) / FRAME_RATE_HZ
    assert (weights[middles_s <= 1.0] == 0).all()
    assert (weights[middles_s >= 1.4] == 1).all()
    rising = weights[(middles_s > 1.0) & (middles_s < 1.4)]
    assert (rising.diff() > 0).all()
    assert rising.mean().item() == pytest.approx(0.5, abs=0.02)


def test_without_a_fade_the_emotion_changes_at_once() -> None:
    weights = track(0.0, 1.0, fade_s=0.0).weights(50)[:, 1]
    assert weights.tolist() == [0.0] * 25 + [1.0] * 25


def test_the_first_key_holds_from_the_start() -> None:
    assert (track(1.0).weights(50) == 1).all()


def test_a_track_of_one_emotion_equals_that_emotion(mapping: EmotionMapping) -> None:
    condition = mapping.label("fear", 0.5)
    frames = mapping.track(track(0.0, 1.0), torch.stack([condition, condition]), 60)
    torch.testing.assert_close(frames, condition.expand(60, -1))
    with pytest.raises(ValueError, match="1 conditions for 2 keys"):
        mapping.track(track(0.0, 1.0), condition[None], 60)


# mapping


@pytest.mark.parametrize("level", range(NUM_LEVELS))
@pytest.mark.parametrize("emotion", EMOTIONS)
def test_a_label_at_a_level_is_its_prototype(mapping: EmotionMapping, emotion: str, level: int) -> None:
    condition = mapping.label(emotion, level / (NUM_LEVELS - 1))
    torch.testing.assert_close(condition, mapping.prototypes[emotion_index(emotion), level])


def test_labels_are_linear_between_levels(mapping: EmotionMapping) -> None:
    low, high = mapping.prototypes[emotion_index("fear"), 1], mapping.prototypes[emotion_index("fear"), 2]
    torch.testing.assert_close(mapping.label("fear", 0.5), (low + high) / 2)


def test_a_mixture_is_linear_in_its_probabilities(mapping: EmotionMapping) -> None:
    probabilities = torch.zeros(2, len(EMOTIONS))
    probabilities[0, [emotion_index("angry"), emotion_index("happy")]] = torch.tensor([0.25, 0.75])
    probabilities[1, emotion_index("surprised")] = 1
    mixed = mapping.mixture(probabilities, torch.tensor([0.7, 1.0]))
    torch.testing.assert_close(mixed[0], 0.25 * mapping.label("angry", 0.7) + 0.75 * mapping.label("happy", 0.7))
    torch.testing.assert_close(mixed[1], mapping.label("surprised"))


def test_wrong_prototypes_are_refused(mapping: EmotionMapping) -> None:
    with pytest.raises(ValueError, match="not finite"):
        mapping.set_prototypes(torch.full((len(EMOTIONS), NUM_LEVELS, DIM), math.nan))
    with pytest.raises(ValueError, match=rf"Give \[{len(EMOTIONS)}, {NUM_LEVELS}, {DIM}\]"):
        mapping.set_prototypes(torch.zeros(len(EMOTIONS), NUM_LEVELS, DIM + 1))


def test_texts_without_emotion_are_neutral(mapping: EmotionMapping) -> None:
    with torch.no_grad():
        mapping.text_head.emotion.bias[len(EMOTIONS)] += 20
    estimate = mapping.text_estimate(torch.randn(3, 12))
    torch.testing.assert_close(estimate.probabilities.sum(dim=-1), torch.ones(3))
    assert (estimate.probabilities[:, NEUTRAL] > 0.99).all()


def test_sharpness_ranges_from_a_blend_to_the_likeliest_emotion() -> None:
    torch.manual_seed(0)
    prototypes, embedding = torch.randn(len(EMOTIONS), NUM_LEVELS, DIM), torch.randn(1, 12)
    soft, sharp = (
        EmotionMapping(DIM, dim_text=12, dim_text_hidden=16, dim_speech=8, sharpness=sharpness).eval()
        for sharpness in (1.0, 200.0)
    )
    sharp.load_state_dict(soft.state_dict())
    for mapping in (soft, sharp):
        mapping.set_prototypes(prototypes)
    estimate = soft.text_estimate(embedding)
    torch.testing.assert_close(soft.text(embedding), soft.mixture(estimate.probabilities, estimate.intensity))
    likeliest = EMOTIONS[estimate.probabilities.argmax()]
    torch.testing.assert_close(sharp.text(embedding)[0], sharp.label(likeliest, estimate.intensity.item()))


def test_a_head_for_the_last_layer_ignores_the_others(mapping: EmotionMapping) -> None:
    embedding = torch.randn(2, 12)
    longer = torch.cat([embedding, torch.randn(2, 5)], dim=1)
    torch.testing.assert_close(mapping.text(longer), mapping.text(embedding))
    torch.testing.assert_close(mapping.meaning(longer), mapping.meaning(embedding))


def test_the_gain_multiplies_the_embedding() -> None:
    torch.manual_seed(0)
    plain, gained = (EmotionMapping(DIM, 12, 16, 8, text_gain=gain).eval() for gain in (1.0, 20.0))
    gained.load_state_dict(plain.state_dict())
    embedding = torch.randn(3, 12)
    estimates = plain.text_estimate(20 * embedding), gained.text_estimate(embedding)
    torch.testing.assert_close(estimates[0].probabilities, estimates[1].probabilities)


def test_heads_can_be_trained_alone(mapping: EmotionMapping) -> None:
    for logits, num_classes in (
        (mapping.text_head(torch.randn(4, 12)), len(EMOTIONS) + 1),
        (mapping.speech_head(torch.randn(4, 40, 80)), len(EMOTIONS)),
    ):
        assert isinstance(logits, EmotionLogits)
        assert logits.emotion.shape == (4, num_classes)
        (logits.emotion.sum() + logits.intensity.sum()).backward()
    assert all(parameter.grad is not None for parameter in mapping.parameters())


@pytest.mark.parametrize("num_samples", [1, 640, 16_000, 50_001])
def test_speech_may_have_any_length(mapping: EmotionMapping, num_samples: int) -> None:
    waveform = 0.1 * torch.randn(2, num_samples)
    assert mapping.speech(waveform).shape == (2, DIM)
    estimate = mapping.speech_estimate(waveform)
    torch.testing.assert_close(estimate.probabilities.sum(dim=-1), torch.ones(2))
    assert ((estimate.intensity >= 0) & (estimate.intensity <= 1)).all()


def test_both_heads_learn(mapping: EmotionMapping) -> None:
    torch.manual_seed(1)
    emotion = torch.tensor([1, 4, 6])
    embedding, mel = torch.nn.functional.normalize(torch.randn(3, 12), dim=-1), torch.randn(3, 40, 80)
    optimizer = torch.optim.AdamW(mapping.parameters(), 1e-2)
    for _ in range(40):
        heads = mapping.text_head(embedding), mapping.speech_head(mel)
        loss = sum(torch.nn.functional.cross_entropy(logits.emotion, emotion) for logits in heads)
        assert isinstance(loss, torch.Tensor)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert mapping.text_estimate(embedding).probabilities.argmax(-1).tolist() == emotion.tolist()
    assert mapping.speech_head(mel).emotion.argmax(-1).tolist() == emotion.tolist()


def test_a_saved_and_loaded_mapping_is_equal(tmp_path: Path) -> None:
    mapping = EmotionMapping(DIM, 12, 16, 8, text_gain=20.0).eval()
    mapping.set_prototypes(torch.randn(len(EMOTIONS), NUM_LEVELS, DIM))
    mapping.save_pretrained(tmp_path)
    loaded = EmotionMapping.from_pretrained(tmp_path).eval()
    waveform, embedding = 0.1 * torch.randn(1, 8000), torch.randn(1, 12)
    torch.testing.assert_close(loaded.speech(waveform), mapping.speech(waveform))
    torch.testing.assert_close(loaded.text(embedding), mapping.text(embedding))
    torch.testing.assert_close(loaded.label("sad", 0.4), mapping.label("sad", 0.4))


@pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason=f"needs the package {PACKAGE}")
def test_loading_the_sentence_encoder_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    SentenceEncoder()
    assert capfd.readouterr() == ("", "")

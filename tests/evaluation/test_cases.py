"""Evaluation cases: emotions are swapped and alternate, and the truth belongs to the speech."""

import numpy as np
import pytest
import torch

from emotivetalk.corpus.held_out_prompts import HELD_OUT
from emotivetalk.errors import InputError
from emotivetalk.evaluation.cases import INTENSITY_LEVELS, CaseBuilder, choose_kinds, kind_of, true_frames
from emotivetalk.evaluation.kinds import KINDS
from emotivetalk.evaluation.measurements import open_eyes_frame
from emotivetalk.models.emotion import EMOTIONS, EmotionImage, EmotionLabel, EmotionVideo
from tests.evaluation.conftest import SETTINGS


def test_neither_portrait_nor_voice_has_the_target_emotion(builder):
    cases = builder.by_label(16)
    assert [case.target_emotion for case in cases] == [*range(8), *range(8)]
    for case in cases:
        assert case.emotion == EmotionLabel(EMOTIONS[case.target_emotion], 1.0)
        assert case.portrait_emotion != case.target_emotion
        motion = next(c for c in builder.clips if c.emotion == case.target_emotion)
        assert np.array_equal(case.expression.numpy(), motion.expression[: case.num_frames])
        voice = next(
            c for c in builder.clips if np.array_equal(c.waveform[: len(case.waveform)], case.waveform.numpy())
        )
        assert voice.emotion != case.target_emotion
        assert np.array_equal(voice.lip[: case.num_frames], case.lip.numpy())


def test_speech_and_truth_have_the_same_length(builder):
    for case in (*builder.speech_alone(3), *builder.by_speech(3), builder.long_case(70)):
        assert len(case.waveform) == 640 * case.num_frames
        assert len(case.lip) == len(case.expression) == len(case.pose) == case.num_frames
    assert builder.long_case(70).num_frames == 70
    assert builder.by_label(1)[0].num_frames == SETTINGS.clip_frames


def test_levels_differ_only_in_intensity(builder):
    (group,) = builder.by_level(1)
    assert [case.intensity for case in group] == list(INTENSITY_LEVELS)
    assert all(torch.equal(case.portrait, group[0].portrait) for case in group)
    assert all(torch.equal(case.waveform, group[0].waveform) for case in group)
    assert torch.allclose(group[0].expression * 3, group[2].expression, atol=1e-6)
    assert EMOTIONS[group[0].target_emotion] != "neutral"


def test_images_and_videos_are_sources(builder):
    assert isinstance(builder.by_image(1)[0].emotion, EmotionImage)
    video = builder.by_video(1)[0].emotion
    assert isinstance(video, EmotionVideo)
    assert len(video.frames) == SETTINGS.clip_frames


def test_held_out_texts_are_words_and_situations(builder):
    kinds = {prompt.text: prompt.kind for prompt in HELD_OUT}
    emotions = {prompt.text: prompt.emotion for prompt in HELD_OUT}
    cases = builder.by_text(4 * len(EMOTIONS))
    texts = [case.emotion.text for case in cases]
    assert len(set(texts)) == len(texts)
    assert [emotions[text] for text in texts] == [EMOTIONS[case.target_emotion] for case in cases]
    assert {kinds[text] for text in texts[: len(EMOTIONS)]} == {"word"}
    assert {kinds[text] for text in texts[-len(EMOTIONS) :]} == {"situation"}


def test_true_frames_come_in_batches(builder):
    case = builder.long_case(20)
    parts = list(true_frames(case, 64))
    assert sum(len(part) for part in parts) == 20
    assert parts[0].shape[1:] == (3, 64, 64)


def test_a_folder_without_a_corpus_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a corpus"):
        CaseBuilder(tmp_path, 64, 12)


def test_the_frame_for_the_report_has_open_eyes():
    expression = torch.zeros(9, 12)
    assert open_eyes_frame(expression) == 4
    expression[3:6, 5] = 0.8  # blink
    assert open_eyes_frame(expression) == 2
    assert open_eyes_frame(torch.ones(9, 12)) == 4


def test_each_kind_of_people_has_its_own_cases_and_the_same_targets(mixed_corpus):
    assert choose_kinds(mixed_corpus) == ("avatars", "photographs")
    assert choose_kinds(mixed_corpus, ["photographs"]) == ("photographs",)
    for kind in choose_kinds(mixed_corpus):
        builder = CaseBuilder(mixed_corpus, 64, 12, kind)
        assert builder.clips
        cases = [*builder.by_label(8), *builder.by_speech(2), builder.long_case(20)]
        assert {kind_of(case.identity_seed) for case in cases} == {kind}
        assert next(true_frames(cases[0], 64)).shape[1:] == (3, 64, 64)
    targets = [[case.target_emotion for case in CaseBuilder(mixed_corpus, 64, 12, kind).by_label(8)] for kind in KINDS]
    assert targets[0] == targets[1]


def test_a_kind_that_is_not_in_the_corpus_is_refused(corpus):
    assert choose_kinds(corpus) == ("avatars",)
    with pytest.raises(InputError, match="has no held-out photographs"):
        choose_kinds(corpus, ["photographs"])

"""The pipeline at debug size: lengths, seeds, seams, sources, saving."""

import itertools

import pytest
import torch

from emotivetalk.models.diffusion import Guidance
from emotivetalk.models.emotion import EmotionImage, EmotionKey, EmotionLabel, EmotionSpeech, EmotionTrack, EmotionVideo
from emotivetalk.models.motion_generator import join
from emotivetalk.models.pipeline import EmotiveTalkPipeline
from emotivetalk.timebase import SAMPLES_PER_FRAME
from tests.models import debug

SIDE = debug.IMAGE_SIZE


@pytest.fixture(scope="module")
def pipeline() -> EmotiveTalkPipeline:
    return debug.pipeline()


@pytest.fixture(scope="module")
def portrait() -> torch.Tensor:
    return torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1


def speech(frames: float) -> torch.Tensor:
    return 0.1 * torch.randn(int(frames * SAMPLES_PER_FRAME), generator=torch.Generator().manual_seed(2))


def video(pipeline, *arguments, **settings) -> torch.Tensor:
    return torch.cat(list(pipeline(*arguments, **settings)))


@pytest.mark.parametrize("frames", [0.01, 1, 7.5, 8, 50])
def test_the_video_has_every_frame_of_the_speech(pipeline, portrait, frames):
    frames_shown = video(pipeline, portrait, speech(frames), EmotionLabel("happy"))
    assert frames_shown.shape == (-(-int(frames * SAMPLES_PER_FRAME) // SAMPLES_PER_FRAME), SIDE, SIDE, 3)
    assert frames_shown.dtype == torch.uint8


def test_same_seed_same_frames_and_another_seed_others(pipeline, portrait):
    one = video(pipeline, portrait, speech(20), seed=0)
    assert torch.equal(one, video(pipeline, portrait, speech(20), seed=0))
    assert not torch.equal(one, video(pipeline, portrait, speech(20), seed=1))


def test_frames_are_yielded_before_the_end(pipeline, portrait):
    calls: list[tuple[int, int]] = []
    stream = pipeline(portrait, speech(100), progress=lambda done, total: calls.append((done, total)))
    next(stream)
    done, total = calls[-1]
    assert done < total / 2
    list(stream)
    assert calls[-1] == (total, total)
    assert [done for done, _ in calls] == list(range(1, total + 1))


def test_an_excerpt_equals_a_video_of_one_segment(pipeline, portrait):
    """With several segments, frames far from the borders are equal too."""
    motion = pipeline.generate_motion(portrait, speech(100), seed=3)
    before = {"segment_chunks": pipeline.config["segment_chunks"]}
    divided = torch.cat(list(pipeline.render(motion, seed=3)))
    (start,) = pipeline.excerpts(motion, [range(3)], seed=3)
    assert torch.equal(start, divided[:3])
    pipeline.register_to_config(segment_chunks=100)
    try:
        whole = torch.cat(list(pipeline.render(motion, seed=3)))
    finally:
        pipeline.register_to_config(**before)
    spans = [range(1), range(40, 57), range(99, 100)]
    for span, made in zip(spans, pipeline.excerpts(motion, spans, seed=3), strict=True):
        assert (made.int() - whole[span.start : span.stop].int()).abs().max() <= 1
    with pytest.raises(ValueError, match="not among"):
        list(pipeline.excerpts(motion, [range(90, 101)]))


def test_the_start_does_not_depend_on_later_speech(pipeline, portrait):
    """With equal latents of V-AID, the first segment is equal in a longer clip."""
    motion = pipeline.generate_motion(portrait, speech(90), EmotionLabel("sad"))
    whole = list(pipeline.render_latents(motion))
    assert len(whole) > 2
    again = next(iter(pipeline.render_latents(motion)))
    assert torch.equal(again, whole[0])


def test_features_of_long_speech_have_no_seams(pipeline, portrait):
    """Features, lips and emotion of the speech computed in blocks equal those of the whole speech."""
    waveform = speech(400)
    motion_generator = pipeline.motion_generator
    with torch.no_grad():
        whole = pipeline.audio_encoder(waveform[None])
        lip = pipeline.vaid.projector(whole)[0]
    conditions = motion_generator.prepare(portrait, EmotionSpeech())
    blocks = list(motion_generator.blocks(conditions, waveform))
    assert len(blocks) > 2
    made = join(blocks, range(400))
    torch.testing.assert_close(made.lip, lip, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(
            motion_generator._audio_features(waveform, range(100, 180)), whole[0, 100:180], atol=1e-4, rtol=1e-4
        )
        tone = motion_generator._tone_of_voice(waveform, range(400), 400)
        part = motion_generator._tone_of_voice(waveform, range(210, 260), 400)
    torch.testing.assert_close(part, tone[210:260], rtol=1e-4, atol=1e-5)


def test_a_block_can_be_made_again_by_another_process(pipeline, portrait):
    conditions = pipeline.motion_generator.prepare(portrait, EmotionLabel("happy"))
    blocks = list(pipeline.motion_generator.blocks(conditions, speech(300), seed=3))
    again = debug.pipeline().motion_generator
    made = again.generate_motion(again.prepare(portrait, EmotionLabel("happy")), speech(300), 1, blocks[0], seed=3)
    assert made.frames == blocks[1].frames
    torch.testing.assert_close(made.expression, blocks[1].expression, rtol=1e-5, atol=1e-6)


def test_the_number_of_threads_does_not_change_the_frames(pipeline, portrait):
    one = video(pipeline, portrait, speech(60), EmotionLabel("happy"))
    several = debug.pipeline()
    several.num_workers = 3
    threads = torch.get_num_threads()
    made = video(several, portrait, speech(60), EmotionLabel("happy"))
    assert torch.get_num_threads() == threads
    assert (made.int() - one.int()).abs().max() <= 1


SOURCES = {
    "own": None,
    "label": EmotionLabel("angry", 0.7),
    "image": EmotionImage(torch.rand(3, 100, 100) * 2 - 1),
    "video": EmotionVideo(torch.rand(5, 3, 64, 64) * 2 - 1),
    "speech": EmotionSpeech(),
    "track": EmotionTrack((EmotionKey(0.0, EmotionLabel("sad")), EmotionKey(0.4, EmotionLabel("happy")))),
}


def test_each_emotion_source_gives_another_video_with_equal_lips(pipeline, portrait):
    made = {name: pipeline.generate_motion(portrait, speech(20), source) for name, source in SOURCES.items()}
    for (one, a), (other, b) in itertools.combinations(made.items(), 2):
        assert not torch.allclose(a.expression, b.expression, atol=1e-3), (one, other)
        assert torch.equal(a.lip, b.lip), "the lips depend on the emotion"


def test_a_video_source_goes_through_frame_by_frame(pipeline, portrait):
    frames = torch.rand(4, 3, 64, 64) * 2 - 1
    motion = pipeline.generate_motion(portrait, speech(9), EmotionVideo(frames))
    with torch.no_grad():
        seen = pipeline.expression_encoder(frames)
    torch.testing.assert_close(motion.expression, seen[[0, 1, 2, 3, 2, 1, 0, 1, 2]], rtol=1e-4, atol=1e-5)


def test_guidance_of_one_has_no_effect_and_more_has(pipeline, portrait):
    motion = pipeline.generate_motion(portrait, speech(8), EmotionLabel("happy"))

    def latents(guidance: Guidance) -> torch.Tensor:
        return torch.cat(list(pipeline.render_latents(motion, guidance=guidance)))

    assert torch.equal(latents(Guidance()), latents(Guidance(1.0, 1.0)))
    assert not torch.allclose(latents(Guidance()), latents(Guidance(1.0, 3.0)), atol=1e-3)


def test_the_number_of_concurrent_chunks_does_not_change_the_frames(pipeline, portrait):
    motion = pipeline.generate_motion(portrait, speech(40), EmotionLabel("happy"))
    overlap = debug.pipeline()
    overlap.register_to_config(fusion="overlap")
    shifted = torch.cat(list(pipeline.render_latents(motion)))
    blended = torch.cat(list(overlap.render_latents(motion)))
    assert shifted.shape == blended.shape
    assert not torch.equal(shifted, blended)


@pytest.mark.parametrize(
    ("portrait_shape", "waveform", "said"),
    [
        ((3, 32, 32), torch.zeros(640), r"shape \(3, 32, 32\); give \(3, 64, 64\)"),
        ((3, SIDE, SIDE), torch.zeros(0), "empty"),
        ((3, SIDE, SIDE), torch.full((640,), float("nan")), "finite"),
    ],
)
def test_bad_input_is_named(pipeline, portrait_shape, waveform, said):
    with pytest.raises(ValueError, match=said):
        pipeline.generate_motion(torch.zeros(portrait_shape), waveform)


def test_saved_and_loaded_makes_the_same_video(pipeline, portrait, tmp_path):
    pipeline.save_pretrained(tmp_path)
    loaded = EmotiveTalkPipeline.from_pretrained(tmp_path)
    assert loaded.long_video == pipeline.long_video
    assert loaded.image_size == SIDE
    expected = video(pipeline, portrait, speech(12), EmotionLabel("happy"))
    made = video(loaded, portrait, speech(12), EmotionLabel("happy"))
    assert (
        made.int() - expected.int()
    ).abs().max() <= 1  # sums can differ in the last bits with the alignment of the weights
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".json", ".safetensors"}

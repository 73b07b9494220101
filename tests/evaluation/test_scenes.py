"""Scenes: emotion is swapped, speech and truth belong together, all emotions come in turn."""

import numpy as np
import pytest
import torch

from corpus.held_out_prompts import HELD_OUT
from evaluation.scenes import LEVELS, Stage, truth_images
from evaluation.takes import frame_to_show
from media.errors import InputError
from models.emotion import EMOTIONS, EmotionImage, EmotionLabel, EmotionVideo
from tests.evaluation.conftest import SETTINGS


def test_labels_ask_for_what_neither_portrait_nor_voice_has(stage):
    scenes = stage.by_label(16)
    assert [scene.wanted for scene in scenes] == [*range(8), *range(8)]
    for scene in scenes:
        assert scene.emotion == EmotionLabel(EMOTIONS[scene.wanted], 1.0)
        assert scene.shown != scene.wanted
        performed = next(c for c in stage.clips if c.emotion == scene.wanted)
        assert np.array_equal(scene.expression.numpy(), performed.expression[: scene.num_frames])
        voice = next(
            c for c in stage.clips if np.array_equal(c.waveform[: len(scene.waveform)], scene.waveform.numpy())
        )
        assert voice.emotion != scene.wanted
        assert np.array_equal(voice.lip[: scene.num_frames], scene.lip.numpy())


def test_speech_is_as_long_as_its_truth(stage):
    for scene in (*stage.speech_alone(3), *stage.by_speech(3), stage.long_take(70)):
        assert len(scene.waveform) == 640 * scene.num_frames
        assert len(scene.lip) == len(scene.expression) == len(scene.pose) == scene.num_frames
    assert stage.long_take(70).num_frames == 70
    assert stage.by_label(1)[0].num_frames == SETTINGS.clip_frames


def test_levels_differ_in_nothing_but_the_level(stage):
    (group,) = stage.by_level(1)
    assert [scene.level for scene in group] == list(LEVELS)
    assert all(torch.equal(scene.portrait, group[0].portrait) for scene in group)
    assert all(torch.equal(scene.waveform, group[0].waveform) for scene in group)
    assert torch.allclose(group[0].expression * 3, group[2].expression, atol=1e-6)
    assert EMOTIONS[group[0].wanted] != "neutral"


def test_pictures_are_sources_too(stage):
    assert isinstance(stage.by_image(1)[0].emotion, EmotionImage)
    video = stage.by_video(1)[0].emotion
    assert isinstance(video, EmotionVideo)
    assert len(video.frames) == SETTINGS.clip_frames


def test_unseen_texts_are_words_and_scenes(stage):
    kinds = {prompt.text: prompt.kind for prompt in HELD_OUT}
    emotions = {prompt.text: prompt.emotion for prompt in HELD_OUT}
    scenes = stage.by_text(4 * len(EMOTIONS))
    texts = [scene.emotion.text for scene in scenes]
    assert len(set(texts)) == len(texts)
    assert [emotions[text] for text in texts] == [EMOTIONS[scene.wanted] for scene in scenes]
    assert {kinds[text] for text in texts[: len(EMOTIONS)]} == {"word"}
    assert {kinds[text] for text in texts[-len(EMOTIONS) :]} == {"scene"}


def test_truth_is_drawn_in_parts(stage):
    scene = stage.long_take(20)
    parts = list(truth_images(scene, 64))
    assert sum(len(part) for part in parts) == 20
    assert parts[0].shape[1:] == (3, 64, 64)


def test_a_folder_without_a_corpus_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a corpus"):
        Stage(tmp_path, 64, 12)


def test_pictures_to_show_have_open_eyes():
    expression = torch.zeros(9, 12)
    assert frame_to_show(expression) == 4
    expression[3:6, 5] = 0.8  # blink
    assert frame_to_show(expression) in (2, 6)
    assert frame_to_show(torch.ones(9, 12)) == 4

"""Stages accept or reject real video, whose true motion is unknown."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emotivetalk.corpus.drawing import draw_clip
from emotivetalk.corpus.records import write_shards
from emotivetalk.corpus.synthesize import FIRST_HELD_OUT_IDENTITY
from emotivetalk.errors import InputError
from emotivetalk.media.image_codec import encode_pictures
from emotivetalk.models.emotion import EMOTIONS
from emotivetalk.training.run.config import load_config
from emotivetalk.training.stages.registry import stage_class
from tests.training import debug

CONFIGS = Path(__file__).resolve().parents[2] / "train_configs"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of debug size with pictures and without true motion, like real video."""
    folder = tmp_path_factory.mktemp("real")
    people = [*[("train", i) for i in range(2)], ("held_out", FIRST_HELD_OUT_IDENTITY)]
    clips = []
    for split, person in people:
        for emotion in range(0, len(EMOTIONS), 1 if split == "held_out" else 2):
            clip = debug.clip(split, person, emotion, 2)  # type: ignore[arg-type]
            images = draw_clip(clip, size=64).images.permute(0, 2, 3, 1)
            pictures = (images.numpy() * 255).round().astype(np.uint8)
            clips.append(
                replace(
                    clip,
                    identity_seed=None,
                    frames=encode_pictures(list(pictures)),
                    lip=np.zeros((0, 6), np.float32),
                    expression=np.zeros((0, 12), np.float32),
                    pose=np.zeros((0, 6), np.float32),
                    label_source="csv",
                )
            )
    write_shards(clips, folder / "corpus")
    debug.write_checkpoint(folder / "checkpoint")
    return folder


def make(name: str, workplace: Path, tmp_path: Path, *extra: str):
    overrides = [f"output={tmp_path}", f"stage.corpus={workplace / 'corpus'}", *extra]
    if name in ("audio_encoder", "vaid", "projector", "ethd"):
        overrides += [f"stage.checkpoint={workplace / 'checkpoint'}", f"stage.cache={workplace / 'cache'}"]
    return stage_class(name)(load_config(CONFIGS / f"{name}_debug.yaml", overrides).stage)


@pytest.mark.parametrize("name", ["autoencoder", "lip_sync", "audio_encoder", "vaid", "projector", "ethd"])
def test_stages_without_truth_train_on_real_video(name: str, workplace: Path, tmp_path: Path) -> None:
    stage = make(name, workplace, tmp_path)
    loss = stage.module(stage.batch([1, 2]))
    assert loss.total.isfinite()
    metrics = stage.validate(stage.module.eval())
    assert metrics and "jaw" not in metrics and "seen_jaw" not in metrics


@pytest.mark.parametrize("name", ["expression", "reader"])
def test_stages_that_need_truth_refuse_real_video(name: str, workplace: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"the stage {name} cannot be trained on real video: it learns"):
        make(name, workplace, tmp_path)


def test_people_of_real_video_speak_their_own_words(workplace: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"it draws faces that speak another's words") as refused:
        make("ethd", workplace, tmp_path, "stage.other_voices=true")
    assert refused.value.code == "corpus_without_truth"


def test_latents_of_real_video_cannot_be_modelled(workplace: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be trained on real video") as refused:
        make("vaid", workplace, tmp_path, "stage.motion=modelled")
    assert refused.value.code == "corpus_without_truth"

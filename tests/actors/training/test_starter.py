"""The starter's recipe on workers at debug size: all stages in order, export, and a first video."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from emotivetalk.cli import app
from emotivetalk.training.run.config import load_config
from emotivetalk.training.stages.registry import STAGE_NAMES
from tests.training import debug

ROOT = Path(__file__).resolve().parents[3]
STAGES = [name for name in STAGE_NAMES if name != "reader"]  # the reader is not part of a checkpoint


def command(*arguments: object) -> None:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.output, result.exception)


def test_the_makefile_has_all_stages_in_order() -> None:
    line = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("STAGES :="))
    made = line.removeprefix("STAGES :=").split()
    assert all((ROOT / "train_configs" / f"{name}_starter.yaml").is_file() for name in made)
    again = {"ethd_images", "autoencoder_detail"}  # these continue the training of other stages' networks
    assert [name for name in made if name not in again] == STAGES
    assert made.index("autoencoder_detail") < made.index("ethd_images")  # it changes the latents that ETHD learns


@pytest.mark.slow
def test_all_stages_on_two_workers_make_a_checkpoint_that_generates(cluster, tmp_path: Path) -> None:
    corpus, checkpoint, exported = tmp_path / "corpus", tmp_path / "checkpoint", tmp_path / "exported"
    photographs = tmp_path / "photographs"
    debug.write_corpus(corpus)
    debug.write_photographs(photographs)
    for name in STAGES:
        path = ROOT / "train_configs" / f"{name}_debug.yaml"
        keys = load_config(path).stage.model_dump()
        places = {"corpus": corpus, "checkpoint": checkpoint, "encoders": checkpoint, "cache": tmp_path / "cache"}
        places |= {"photographs": photographs} if name == "photograph_encoders" else {}
        settings = {"output": tmp_path / name, "checkpoint": checkpoint, "steps": 2, "checkpoint_every": 2}
        settings |= {f"stage.{key}": place for key, place in places.items() if key in keys}
        overrides = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        command("train", path, "--workers", 2, "--loaders", 2 if name in ("lip_sync", "vaid") else 0, *overrides)
    command("export", checkpoint, "-o", exported, "--image-size", 64, "--chunk-frames", 8)
    video = tmp_path / "video.mp4"
    portrait, speech = ROOT / "examples" / "portrait.png", ROOT / "examples" / "hello.wav"
    command("generate", "--checkpoint", exported, "--portrait", portrait, "--audio", speech, "-o", video,
            "--emotion", "happy", "--num-steps", 1)  # fmt: skip
    assert video.stat().st_size > 1000

"""Fixtures: corpus and checkpoint of debug size, and golden losses, which a debug config must reproduce within 0.1 %."""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from emotivetalk.models import precision
from emotivetalk.training.data import latents
from emotivetalk.training.run.config import load_config
from emotivetalk.training.run.loop import Trainer
from emotivetalk.training.stages.registry import stage_class
from tests.training import debug

GOLDEN_FOLDER = Path(__file__).parent / "golden"
UPDATE_VARIABLE = "EMOTIVETALK_UPDATE_GOLDEN"


def golden_losses(config_path: Path, steps: int, overrides: Sequence[str] = ()) -> list[float]:
    """Compute the losses of a config's first steps, in float32 on one thread, without writing files."""
    config = load_config(config_path, ["precision=fp32", "device=cpu", "prefetch=false", *overrides])
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    trainer = Trainer(stage_class(config.name)(config.stage), config)
    return [trainer.step(step).loss for step in range(steps)]


@pytest.fixture(scope="session")
def workplace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("debug")
    debug.write_corpus(folder / "corpus")
    debug.write_checkpoint(folder / "checkpoint")
    debug.write_photographs(folder / "photographs")
    return folder


@pytest.fixture
def check_golden(monkeypatch) -> Callable[..., None]:
    """Return check_golden(config_path, steps, overrides), which compares losses with golden/<config>.json or updates it.

    Latents are computed in float32 and in this process, so the results do not depend on the CPU.
    """
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: False)
    in_process = SimpleNamespace(map=map)
    monkeypatch.setattr(latents, "ProcessPoolExecutor", lambda *_, **__: nullcontext(in_process))

    def check(config_path: Path, steps: int, overrides: Sequence[str] = ()) -> None:
        file = GOLDEN_FOLDER / f"{config_path.stem}.json"
        losses = golden_losses(config_path, steps, overrides)
        if UPDATE_VARIABLE in os.environ:
            file.write_text(json.dumps(losses, indent=2) + "\n", encoding="utf-8")
        assert file.exists(), f"{file} is missing: write it with {UPDATE_VARIABLE}=1 and inspect it"
        assert losses == pytest.approx(json.loads(file.read_text(encoding="utf-8")), rel=1e-3)

    return check

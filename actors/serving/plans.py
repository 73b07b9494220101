"""How a checkpoint divides a video, read from its configuration alone: the director has no networks."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from models.long_video import LongVideoConfig, LongVideoPlan
from models.performer import expression_video
from models.renderer import widened


class CheckpointPlans:
    """The plans that the pipeline of this checkpoint would walk.

    Args:
        checkpoint: a folder of diffusers' layout.
    """

    def __init__(self, checkpoint: Path) -> None:
        config = json.loads((checkpoint / "model_index.json").read_text(encoding="utf-8"))
        self.image_size: int = config["image_size"]
        self._num_steps: int = config["num_steps"]
        self._video = LongVideoConfig(
            config["chunk_frames"],
            config["segment_chunks"],
            config["pinned_frames"],
            config["fusion"],
            config["shift_stride"],
        )
        self._expression_steps: int = config["expression_steps"]
        self._expression = expression_video(config["expression_chunk_frames"])
        ethd = json.loads((checkpoint / "ethd" / "config.json").read_text(encoding="utf-8"))
        self._lip_window: int = ethd["lip_window"]

    def __call__(
        self, num_frames: int, num_steps: int | None
    ) -> tuple[LongVideoPlan, LongVideoPlan, Callable[[range], range]]:
        """ETHD's plan, V-AID's, and which of V-AID's frames a chunk of these frames looks at."""
        return (
            LongVideoPlan(self._video, num_frames, num_steps or self._num_steps),
            LongVideoPlan(self._expression, num_frames, self._expression_steps),
            partial(widened, window=self._lip_window, num_frames=num_frames),
        )

"""Read from a checkpoint's configuration how it divides a video. No weights are loaded: the director has no networks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from emotivetalk.actors.serving.rendering.live_plan import LivePlan, live_plan
from emotivetalk.errors import InputError
from emotivetalk.models import encoders
from emotivetalk.models.latent_sampler import widened
from emotivetalk.models.long_video_plan import LongVideoConfig, LongVideoPlan
from emotivetalk.models.motion_generator import expression_plan_config
from emotivetalk.models.vaid import AudioLipProjector


class CheckpointPlans:
    """The plans that the checkpoint's pipeline follows.

    Args:
        checkpoint: a folder in the layout of diffusers.
    """

    def __init__(self, checkpoint: Path) -> None:
        config = json.loads((checkpoint / "model_index.json").read_text(encoding="utf-8"))
        self.image_size: int = config["image_size"]
        self._num_steps: int = config["num_steps"]
        self._video = LongVideoConfig.from_checkpoint(config)
        self._expression_steps: int = config["expression_steps"]
        self._expression_chunk_frames: int = config["expression_chunk_frames"]
        self._expression = expression_plan_config(self._expression_chunk_frames)
        _, audio_encoder = config["audio_encoder"]
        self._context: int = getattr(encoders, audio_encoder).context_frames + AudioLipProjector.context_frames
        ethd = json.loads((checkpoint / "ethd" / "config.json").read_text(encoding="utf-8"))
        self._lip_window: int = ethd["lip_window"]

    def __call__(
        self, num_frames: int, num_steps: int | None
    ) -> tuple[LongVideoPlan, LongVideoPlan, Callable[[range], range]]:
        """Return ETHD's plan, V-AID's plan, and a map from a chunk's frames to the V-AID frames it reads."""
        return (
            LongVideoPlan(self._video, num_frames, num_steps or self._num_steps),
            LongVideoPlan(self._expression, num_frames, self._expression_steps),
            partial(widened, window=self._lip_window, num_frames=num_frames),
        )

    def live(
        self,
        num_frames: int,
        num_steps: int | None = None,
        *,
        segment_chunks: int = 3,
        look_ahead_frames: int | None = None,
        first_fragment_frames: int | None = None,
    ) -> LivePlan:
        """Return the plan of a live clip of at most `num_frames`, in segments of `segment_chunks` chunks.

        Raises:
            InputError: the first fragment is shorter than a chunk or longer than a segment.
        """
        video = replace(self._video, segment_chunks=segment_chunks)
        if not video.chunk_frames <= (first_fragment_frames or video.segment_frames) <= video.segment_frames:
            raise InputError(
                "live_fragment_invalid",
                f"live.first_fragment_frames is {first_fragment_frames}; with this checkpoint and live.segment_chunks "
                f"of {segment_chunks}, the range is {video.chunk_frames} to {video.segment_frames}",
                "Choose one in the range.",
            )
        return live_plan(
            video,
            num_steps or self._num_steps,
            self._expression_chunk_frames,
            self._expression_steps,
            self._lip_window,
            self._context,
            num_frames,
            look_ahead_frames,
            first_fragment_frames,
        )

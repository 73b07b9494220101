"""The settings of a video: what a user can choose besides portrait, speech and emotion."""

from __future__ import annotations

from pydantic import Field

from emotivetalk.request.frozen import Frozen


class InputSettings(Frozen):
    """Settings of the inputs' preparation. They reach the intake and no network."""

    face: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Face to animate, counted from 1 at the left; needed if the portrait shows several.",
    )
    audio_track: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Sound track with the speech, counted from 1 in the file's order; unset: the best that has sound.",
    )


class SamplingSettings(Frozen):
    """Settings of the networks. They reach V-AID and ETHD with each call."""

    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="Random seed; the same seed and inputs, same video.")
    num_steps: int | None = Field(
        default=None, ge=1, le=50, description="Denoising steps of ETHD; unset: the checkpoint's own."
    )
    emotion_strength: float = Field(
        default=1.0,
        ge=0.0,
        le=4.0,
        description="Strength of the emotion: 0 none, 1 as requested, 2 exaggerated. Scales the guidance of Di-CTE.",
    )


class VideoSettings(InputSettings, SamplingSettings):
    """All settings of a video, sampling first."""

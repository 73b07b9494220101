"""Settings of an evaluation: how many clips each part measures."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class EvaluationSettings(BaseModel):
    """Amount of work in each part of an evaluation; 0 skips a part. Clips have `clip_frames` frames unless noted.

    The default takes about 50 minutes on one core for each kind of people, `quick()` about four, `slice()` about two.

    Attributes:
        audio_clips, foreign_clips: driven by speech alone; foreign ones have the voice of another synthesizer.
        label_clips: the emotion is set by label.
        motion_clips: further clips by label. Motion statistics use these and label_clips.
        edi_clips: clips by label that are generated again without EDI.
        image_clips, text_clips, video_clips, speech_clips: the emotion comes from that kind of source.
        level_clips: groups of clips that differ in intensity.
        track_clips: clips with `track_keys` emotions each, `track_key_frames` apart.
        driven_clips: clips rendered from true conditions.
        latent_clips: whole clips for V-AID's latents.
        still_frames: frames that the autoencoder reconstructs.
        long_clips: clips of `long_s` seconds, one person each.
        observed_clips: clips driven by speech alone, and clips by label, that the face mesh sees too, if there is one.
        sample_clips: clips by label whose videos are saved with the report.
        num_steps: solver steps; None uses the checkpoint's own.
        seed: seed of the first clip's noise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip_frames: int = Field(default=48, ge=12)
    audio_clips: int = Field(default=24, ge=0)
    foreign_clips: int = Field(default=16, ge=0)
    label_clips: int = Field(default=48, ge=0)
    motion_clips: int = Field(default=48, ge=0)
    edi_clips: int = Field(default=24, ge=0)
    image_clips: int = Field(default=16, ge=0)
    text_clips: int = Field(default=96, ge=0)
    video_clips: int = Field(default=16, ge=0)
    speech_clips: int = Field(default=24, ge=0)
    level_clips: int = Field(default=14, ge=0)
    track_clips: int = Field(default=8, ge=0)
    track_keys: int = Field(default=3, ge=2)
    track_key_frames: int = Field(default=40, ge=12)
    driven_clips: int = Field(default=8, ge=0)
    latent_clips: int = Field(default=64, ge=0)
    still_frames: int = Field(default=64, ge=0)
    long_s: int = Field(default=60, ge=0)
    long_clips: int = Field(default=3, ge=0)
    observed_clips: int = Field(default=24, ge=0)
    sample_clips: int = Field(default=8, ge=0)
    num_steps: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)

    @classmethod
    def slice(cls, num_steps: int | None = None, seed: int = 0) -> EvaluationSettings:
        """Return small settings for continuous integration, without image, text, video and speech sources."""
        return cls(
            clip_frames=24,
            audio_clips=4,
            foreign_clips=0,
            label_clips=8,
            motion_clips=0,
            edi_clips=8,
            image_clips=0,
            text_clips=0,
            video_clips=0,
            speech_clips=0,
            level_clips=2,
            track_clips=2,
            track_keys=2,
            track_key_frames=25,
            driven_clips=2,
            latent_clips=8,
            still_frames=12,
            long_s=5,
            long_clips=1,
            observed_clips=4,
            sample_clips=0,
            num_steps=num_steps,
            seed=seed,
        )

    @classmethod
    def quick(cls, num_steps: int | None = None, seed: int = 0) -> EvaluationSettings:
        """Return settings for a look at a new checkpoint: every kind of figure but tracks, levels and EDI, from fewer clips."""
        return cls(
            clip_frames=28,
            audio_clips=8,
            foreign_clips=0,
            label_clips=16,
            motion_clips=0,
            edi_clips=0,
            image_clips=8,
            text_clips=8,
            video_clips=8,
            speech_clips=8,
            level_clips=0,
            track_clips=0,
            driven_clips=4,
            latent_clips=32,
            still_frames=24,
            long_s=10,
            long_clips=1,
            observed_clips=16,
            sample_clips=8,
            num_steps=num_steps,
            seed=seed,
        )

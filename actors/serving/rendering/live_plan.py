"""The plan of a live clip: segments and blocks at fixed places, although the length of the clip is not known yet.

    clip       0         36          68          100        frames; the starter adds 32 in each segment
    segments   |--- 0 ---|
                       pp|--- 1 ----|                       pp: pinned to the previous segment's end
    V-AID  ----|--- 0 -----|--- 1 -----|                    block i covers the frames that segment i reads
    speech ----|--- 0 --------------|                       block i is generated when this speech has arrived

The plan is that of a clip longer than any live one, cut where the speech ends. So segment i does not depend on what
follows it. V-AID needs more past frames than ETHD, so its clip begins `lead` frames earlier, with silence, and V-AID
counts its frames from there.
"""

from __future__ import annotations

from dataclasses import dataclass

from emotivetalk.models.latent_sampler import widened
from emotivetalk.models.long_video_plan import LongVideoConfig, LongVideoPlan

SOUND_FRAMES = 2
"""Frames of sound that the audio encoder needs beyond a packet before it gives the packet."""


@dataclass(frozen=True)
class LivePlan:
    """The plan of one live clip; see `live_plan`.

    Attributes:
        video: ETHD's plan. The first segment has `first_frames`; all others add `new_frames`.
        expression: V-AID's plan. Its segments are the blocks, one for each of ETHD's segments.
        lip_window: V-AID frames that ETHD reads for one of its frames.
        context: frames of speech on each side of a block that V-AID's networks read.
        look_ahead_frames: frames of speech to wait for beyond a block, at most `context`.
    """

    video: LongVideoPlan
    expression: LongVideoPlan
    lip_window: int
    context: int
    look_ahead_frames: int

    @property
    def lead(self) -> int:
        """Number of V-AID frames before the clip."""
        omitted = self.video.config.segment_frames - self.first_frames  # V-AID's first block is as long as the others
        pinned = self.expression.config.pinned_frames - self.video.config.pinned_frames
        return pinned - self.lip_window // 2 + omitted

    @property
    def first_frames(self) -> int:
        """Number of frames of the first segment."""
        return self.video.first_frames or self.video.config.segment_frames

    @property
    def new_frames(self) -> int:
        """Number of frames that each segment adds to the clip."""
        return self.video.config.segment_frames - self.video.config.pinned_frames

    def needs(self, frames: range) -> range:
        """Return the V-AID frames, in V-AID's count, that an ETHD chunk of these frames reads."""
        needed = widened(frames, self.lip_window, self.video.num_frames)
        return range(needed.start + self.lead, needed.stop + self.lead)

    def stop(self, segment: int) -> int:
        """Return the first frame after the segment."""
        return self.first_frames + segment * self.new_frames

    def num_speech_frames(self, block: int) -> int:
        """Return the number of frames of speech that must have arrived before the block is generated."""
        return self.stop(block) + self.lip_window // 2 + self.look_ahead_frames

    def motion_window(self, block: int) -> range:
        """Return the clip's frames that V-AID denoises in a block. The first ones may be negative: before the clip."""
        stop = self.stop(block) + self.lip_window // 2
        return range(stop - self.expression.config.segment_frames, stop)

    def speech_window(self, block: int) -> range:
        """Return the frames whose speech the block is generated from, as far as the speech goes."""
        return range(max(0, self.motion_window(block).start - self.context), self.num_speech_frames(block))

    def num_segments(self, num_frames: int) -> int:
        """Return the number of segments of a clip of `num_frames`."""
        past_first = num_frames - self.stop(0)
        return min(1, num_frames) + max(0, -(-past_first // self.new_frames))


def live_plan(
    video: LongVideoConfig,
    num_steps: int,
    expression_chunk_frames: int,
    expression_steps: int,
    lip_window: int,
    context: int,
    num_frames: int,
    look_ahead_frames: int | None = None,
    first_frames: int | None = None,
) -> LivePlan:
    """Make the plan of clips of at most `num_frames`.

    Args:
        video: how to divide ETHD's clips. Fragments of short segments arrive sooner.
        num_steps: ETHD's steps.
        expression_chunk_frames: length of the sequences that Di-CTE was trained on.
        expression_steps: Di-CTE's steps.
        lip_window, context: see `LivePlan`.
        look_ahead_frames: frames of speech to wait for beyond a block; None waits for all that V-AID's networks read. With
            fewer, the lips know less of the sound that follows.
        first_frames: length of the first segment; None is that of all others.

    Raises:
        ValueError: the segments are too short, or the first one is shorter than a chunk or longer than the others.
    """
    new_frames = video.segment_frames - video.pinned_frames
    pinned = max(video.pinned_frames + lip_window // 2, min(expression_chunk_frames // 4, new_frames // 2))
    expression = LongVideoConfig(new_frames + pinned, segment_chunks=1, pinned_frames=pinned, shift_stride=1)
    first = first_frames or video.segment_frames
    # One segment more, since the last segment of a plan is not followed by a lip window.
    num_segments = max(0, -(-(num_frames - first) // new_frames)) + 1
    return LivePlan(
        LongVideoPlan(video, first + num_segments * new_frames, num_steps, first_frames),
        LongVideoPlan(expression, pinned + (1 + num_segments) * new_frames, expression_steps),
        lip_window,
        context,
        max(SOUND_FRAMES, context if look_ahead_frames is None else min(look_ahead_frames, context)),
    )

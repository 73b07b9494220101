"""How a clip is divided that is still being spoken: everything has its place before anybody knows where it ends.

    clip       0         36          68          100        frames: of the starter, 32 new ones in each segment
    segments   |--- 0 ---|
                       pp|--- 1 ----|                       pp: pinned to the end of the one before
    V-AID  ----|--- 0 -----|--- 1 -----|                    block i reaches as far as segment i looks
    speech ----|--- 0 --------------|                       block i hears so far, and is made when it is spoken

The plan is that of a clip longer than any live one, cut where the speech ends, so segment i is the same whatever
follows. V-AID's blocks see more of what came before than ETHD's segments; for that they begin `lead` frames before the
clip, with silence, and V-AID counts its frames from there.
"""

from __future__ import annotations

from dataclasses import dataclass

from emotivetalk.models.latent_sampler import widened
from emotivetalk.models.long_video_plan import LongVideoConfig, LongVideoPlan

SOUND_FRAMES = 2
"""The sound's encoder gives a packet when it has heard so much more."""


@dataclass(frozen=True)
class LivePlan:
    """The plan of one live clip; `live_plan` makes it.

    Attributes:
        video: ETHD's plan. All segments are equally long; what the first one has more is `pinned_frames`.
        expression: V-AID's; its segments are the blocks, as many and with as many new frames as ETHD's segments.
        lip_window: frames of V-AID's that ETHD looks at for one of its own.
        context: frames of speech that V-AID's networks hear around those they see.
        look_ahead_frames: of which so many behind a block are waited for.
    """

    video: LongVideoPlan
    expression: LongVideoPlan
    lip_window: int
    context: int
    look_ahead_frames: int

    @property
    def lead(self) -> int:
        """How many of V-AID's frames are before the clip."""
        return self.expression.config.pinned_frames - self.video.config.pinned_frames - self.lip_window // 2

    @property
    def new_frames(self) -> int:
        """By which each segment makes the clip longer."""
        return self.video.config.segment_frames - self.video.config.pinned_frames

    def needs(self, frames: range) -> range:
        """V-AID's frames, by its own count, that a chunk of these frames looks at."""
        seen = widened(frames, self.lip_window, self.video.num_frames)
        return range(seen.start + self.lead, seen.stop + self.lead)

    def stop(self, segment: int) -> int:
        """The first frame that is not in the segment or before."""
        return self.video.config.pinned_frames + (segment + 1) * self.new_frames

    def wanted(self, block: int) -> int:
        """How many frames have to be spoken before a block is made."""
        return self.stop(block) + self.lip_window // 2 + self.look_ahead_frames

    def seen(self, block: int) -> range:
        """The clip's frames, and maybe some before it, that V-AID sees in a block."""
        stop = self.stop(block) + self.lip_window // 2
        return range(stop - self.expression.config.segment_frames, stop)

    def heard(self, block: int) -> range:
        """The frames whose speech a block is made from, if they are spoken."""
        return range(max(0, self.seen(block).start - self.context), self.wanted(block))

    def num_segments(self, num_frames: int) -> int:
        """Which a clip of so many frames has."""
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
) -> LivePlan:
    """The plan for clips of up to so many frames.

    Args:
        video: how ETHD's clips are divided; short segments come sooner.
        num_steps, expression_steps: ETHD's and Di-CTE's.
        expression_chunk_frames: the length of the sequences that Di-CTE was trained on.
        lip_window, context: see `LivePlan`.
        look_ahead_frames: frames of speech behind a block to wait for; None, and at most: as many as V-AID's networks hear.
            With fewer the lips know less of the sound that comes next.

    Raises:
        ValueError: the segments are too short.
    """
    new_frames = video.segment_frames - video.pinned_frames
    pinned = max(video.pinned_frames + lip_window // 2, min(expression_chunk_frames // 4, new_frames // 2))
    expression = LongVideoConfig(new_frames + pinned, segment_chunks=1, pinned_frames=pinned, shift_stride=1)
    # One more, since the last segment of a plan looks at nothing behind it.
    num_segments = max(1, -(-(num_frames - video.pinned_frames) // new_frames)) + 1
    return LivePlan(
        LongVideoPlan(video, video.pinned_frames + num_segments * new_frames, num_steps),
        LongVideoPlan(expression, pinned + num_segments * new_frames, expression_steps),
        lip_window,
        context,
        max(SOUND_FRAMES, context if look_ahead_frames is None else min(look_ahead_frames, context)),
    )

"""What deployments say to each other. Arrays are NumPy's: Ray maps them from its object store without a copy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from emotivetalk.media.fragments import SoundPackets
from emotivetalk.models.long_video_plan import Call, CallId, Ease, Gather, LongVideoConfig
from emotivetalk.request import LabelEmotion, TextEmotion, VideoRequest


@dataclass(frozen=True)
class LivePortrait:
    """A live call's portrait, prepared. It goes along with each call: a live call has no folder to read it from.

    Bytes and no array, so that equal ones are one key of the caches that replicas have.
    """

    side: int
    rgb: bytes

    @property
    def pixels(self) -> UInt8[np.ndarray, "side side 3"]:
        return np.frombuffer(self.rgb, np.uint8).reshape(self.side, self.side, 3)


@dataclass(frozen=True)
class LiveCue:
    """From this frame on, after a cross-fade, the emotion is this; None: the portrait's own expression."""

    frame: int
    emotion: LabelEmotion | TextEmotion | None


@dataclass(frozen=True)
class MotionCall:
    """To V-AID: make a block of the clip's latents.

    Args:
        trace: what the call belongs to, a W3C `traceparent`; so in all calls.
    """

    job_id: str
    request: VideoRequest
    block: int
    trace: str | None = None


@dataclass(frozen=True)
class LiveMotionCall:
    """To V-AID: make a block of a clip that is being spoken.

    V-AID's frames begin `lead` frames before the clip, with silence.

    Args:
        cues: those that matter to this block, the first of which holds from its begin; frames are the clip's.
        num_frames: of V-AID's clip; only a bound.
        long_video: how V-AID's clip is divided.
        first_sample: where `speech` begins in V-AID's clip. Beyond both its ends there is silence.
    """

    portrait: LivePortrait
    cues: tuple[LiveCue, ...]
    block: int
    lead: int
    num_frames: int
    long_video: LongVideoConfig
    speech: Float32[np.ndarray, " samples"]
    first_sample: int
    seed: int
    emotion_strength: float
    live_id: str = ""
    trace: str | None = None


@dataclass(frozen=True)
class RenderCall:
    """To ETHD: advance chunks by a step.

    Args:
        num_frames: of the clip.
        num_blocks: how many of the results that go along are V-AID's; they come first.
        calls: adjacent chunks of one step.
        before: how to gather the end of the segment before from the results, if they are its.
        before_path: where that end is stored, if the segment before was made by another run.
        portrait: of a live call.
    """

    job_id: str
    request: VideoRequest
    num_frames: int
    num_blocks: int
    calls: tuple[Call, ...]
    before: Gather | None = None
    before_path: str | None = None
    portrait: LivePortrait | None = None
    trace: str | None = None


@dataclass(frozen=True)
class FinishCall:
    """To the decoder: turn a segment's latents into a fragment.

    Args:
        index: of the segment.
        num_frames: of the clip.
        fence: of the claim under which it is made; it is in the files' names, so that no run overwrites another's.
        ease: how it joins the segment before, whose end `before` or `before_path` leads to, as for `RenderCall`.
        tail: its own end, to be stored.
    """

    job_id: str
    request: VideoRequest
    index: int
    num_frames: int
    fence: int
    result: Gather
    tail: Gather
    ease: Ease | None = None
    before: Gather | None = None
    before_path: str | None = None
    trace: str | None = None


@dataclass(frozen=True)
class LiveFinishCall:
    """To the decoder: turn a live call's segment into a fragment, and answer with it.

    Args:
        ease, before: how it joins the segment before, and how to gather that one's end, as for `FinishCall`.
        num_frames: of `result`, from its first on; the others are beyond the end of the speech.
        is_last: no segment follows.
    """

    live_id: str
    portrait: LivePortrait
    index: int
    result: Gather
    ease: Ease | None
    before: Gather | None
    num_frames: int
    sound: SoundPackets
    is_last: bool
    trace: str | None = None


@dataclass(frozen=True)
class BlockData:
    """A block of V-AID's latents, from frame `start` on, and the expression that the portrait has."""

    start: int
    lip: Float32[np.ndarray, "frames dim_lip"]
    expression: Float32[np.ndarray, "frames dim_expression"]
    expression_reference: Float32[np.ndarray, " dim_expression"]


@dataclass(frozen=True)
class ChunkData:
    """Chunks after a step: what ETHD gives for a call."""

    chunks: dict[CallId, Float32[np.ndarray, "frames channels h w"]]


@dataclass(frozen=True)
class Receipt:
    """That a call is done, in a few bytes: what its caller may look at, the arrays staying in the object store.

    Args:
        worker: which replica did it.
        seconds: of computing.
        num_chunks: advanced together with it, those of other calls included.
    """

    worker: str
    seconds: float
    num_chunks: int = 0


@dataclass(frozen=True)
class Finished:
    """A segment in the artifact store, to be published."""

    index: int
    start_frame: int
    num_frames: int
    path: str
    num_bytes: int
    sha256: str
    tail_path: str | None
    timings: dict[str, float]


@dataclass(frozen=True)
class LiveFinished:
    """A live call's fragment. Its bytes come with the answer: they go to the client at once, and are kept nowhere.

    Args:
        timings: seconds by stage.
    """

    index: int
    start_frame: int
    num_frames: int
    data: bytes
    timings: dict[str, float] | None = None

"""Messages between deployments. Arrays are NumPy arrays, which Ray maps from its object store without a copy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from emotivetalk.media.fragments import SoundPackets
from emotivetalk.models.long_video_plan import Call, CallId, Ease, Gather, LongVideoConfig
from emotivetalk.request import LabelEmotion, SamplingSettings, TextEmotion, VideoRequest


@dataclass(frozen=True)
class LivePortrait:
    """The prepared portrait of a live call. Each call carries it, since a live call has no folder to read it from.

    Bytes instead of an array, so that replicas can use it as a cache key.
    """

    side: int
    rgb: bytes

    @property
    def pixels(self) -> UInt8[np.ndarray, "side side 3"]:
        return np.frombuffer(self.rgb, np.uint8).reshape(self.side, self.side, 3)


@dataclass(frozen=True)
class LiveCue:
    """An emotion change: the emotion from this frame on, after a cross-fade. None is the portrait's own expression."""

    frame: int
    emotion: LabelEmotion | TextEmotion | None


@dataclass(frozen=True)
class MotionCall:
    """Call of V-AID: generate a block of the clip's latents.

    Attributes:
        trace: W3C `traceparent` of the call, as in all calls.
    """

    job_id: str
    request: VideoRequest
    block: int
    trace: str | None = None


@dataclass(frozen=True)
class LiveMotionCall:
    """Call of V-AID: generate a block of a live clip.

    V-AID's clip begins `lead` frames before the clip, with silence.

    Attributes:
        cues: the emotion changes that affect this block; the first one holds from its beginning. Frames are the clip's.
        num_frames: length of V-AID's clip; an upper bound.
        long_video: how V-AID's clip is divided.
        first_sample: where `speech` begins in V-AID's clip. There is silence before and after it.
    """

    portrait: LivePortrait
    cues: tuple[LiveCue, ...]
    block: int
    lead: int
    num_frames: int
    long_video: LongVideoConfig
    speech: Float32[np.ndarray, " samples"]
    first_sample: int
    settings: SamplingSettings
    live_id: str = ""
    trace: str | None = None


@dataclass(frozen=True)
class RenderCall:
    """Call of ETHD: advance chunks by one step.

    Attributes:
        job_id: the job or the live call.
        num_frames: length of the clip.
        num_blocks: number of leading arguments that are V-AID blocks.
        calls: adjacent chunks of one step.
        tail: how to gather the end of the previous segment from the arguments, if they hold it.
        tail_path: artifact with the end of the previous segment, if an earlier run stored it.
        portrait: of a live call; None reads it from the job's folder.
        urgency: of the job; calls with smaller ones are computed first.
    """

    job_id: str
    request: VideoRequest
    num_frames: int
    num_blocks: int
    calls: tuple[Call, ...]
    tail: Gather | None = None
    tail_path: str | None = None
    portrait: LivePortrait | None = None
    urgency: tuple[int, float] = (0, 0.0)
    trace: str | None = None

    @property
    def is_live(self) -> bool:
        """True for a live call's chunks."""
        return self.portrait is not None


@dataclass(frozen=True)
class FinishCall:
    """Call of the decoder: turn a segment's latents into a stored fragment.

    Attributes:
        index: of the segment.
        num_frames: length of the clip.
        fence: number of the claim. It is part of the file names, so that no run overwrites the files of another.
        result: how to gather the segment's latents.
        own_tail: how to gather the segment's own end, which is stored for the next segment.
        ease: how the segment joins the previous one.
        tail, tail_path: the end of the previous segment, as in `RenderCall`.
    """

    job_id: str
    request: VideoRequest
    index: int
    num_frames: int
    fence: int
    result: Gather
    own_tail: Gather
    ease: Ease | None = None
    tail: Gather | None = None
    tail_path: str | None = None
    trace: str | None = None


@dataclass(frozen=True)
class LiveFinishCall:
    """Call of the decoder: turn a live call's segment into a fragment and return it.

    Attributes:
        result, ease, tail: as in `FinishCall`.
        num_frames: number of leading frames of `result` in the fragment; the others lie after the end of the speech.
        picture_frames: for how many frames each picture stays; the frames between are dropped. 1 drops none.
        is_last: the segment ends the clip.
    """

    live_id: str
    portrait: LivePortrait
    index: int
    result: Gather
    ease: Ease | None
    tail: Gather | None
    num_frames: int
    sound: SoundPackets
    is_last: bool
    picture_frames: int = 1
    trace: str | None = None


@dataclass(frozen=True)
class BlockData:
    """A block of V-AID's latents from frame `start` on, and the expression of the portrait."""

    start: int
    lip: Float32[np.ndarray, "frames dim_lip"]
    expression: Float32[np.ndarray, "frames dim_expression"]
    expression_reference: Float32[np.ndarray, " dim_expression"]


@dataclass(frozen=True)
class ChunkData:
    """Result of an ETHD call: its chunks after the step."""

    chunks: dict[CallId, Float32[np.ndarray, "frames channels h w"]]


@dataclass(frozen=True)
class Receipt:
    """Completion of a call in a few bytes: what the caller reads, while the arrays stay in the object store.

    Attributes:
        worker: the replica.
        seconds: compute time.
        num_chunks: number of chunks that went through the network together, including those of other calls.
    """

    worker: str
    seconds: float
    num_chunks: int = 0


@dataclass(frozen=True)
class FinishedSegment:
    """A segment in the artifact store, ready to be published.

    Attributes:
        timings: seconds by stage.
    """

    index: int
    start_frame: int
    num_frames: int
    path: str
    num_bytes: int
    sha256: str
    tail_path: str | None
    timings: dict[str, float]


@dataclass(frozen=True)
class FinishedLiveSegment:
    """A live call's fragment. The answer carries its bytes: they go to the client at once and are stored nowhere.

    Attributes:
        num_frames: length, frames.
        num_dropped_frames: how many of them show the picture before.
        timings: seconds by stage.
    """

    index: int
    start_frame: int
    num_frames: int
    num_dropped_frames: int
    data: bytes
    timings: dict[str, float]

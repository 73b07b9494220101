"""What deployments say to each other. Arrays are NumPy's: Ray maps them from its object store without a copy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from actors.serving.requests import VideoRequest
from models.long_video import Call, CallId, Gather


@dataclass(frozen=True)
class PerformCall:
    """To V-AID: make a block of the clip's latents."""

    job_id: str
    request: VideoRequest
    block: int


@dataclass(frozen=True)
class RenderCall:
    """To ETHD: advance chunks by a step.

    Args:
        num_frames: of the clip.
        num_blocks: how many of the results that go along are V-AID's; they come first.
        calls: adjacent chunks of one step.
        tail: how to gather the end of the segment before from the results, if they are its.
        tail_path: where that end is stored, if the segment before was made by another run.
    """

    job_id: str
    request: VideoRequest
    num_frames: int
    num_blocks: int
    calls: tuple[Call, ...]
    tail: Gather | None = None
    tail_path: str | None = None


@dataclass(frozen=True)
class FinishCall:
    """To the decoder: turn a segment's latents into a fragment.

    Args:
        index: of the segment.
        num_frames: of the clip.
        fence: of the claim under which it is made; it is in the files' names, so that no run overwrites another's.
    """

    job_id: str
    request: VideoRequest
    index: int
    num_frames: int
    fence: int
    result: Gather
    tail: Gather


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

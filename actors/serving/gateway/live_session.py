"""Live rendering, seen from the front door: speech goes in while it is spoken, fragments come out.

The front door keeps the bounds (`LiveLimits`) and the order; who renders implements `LiveSession`. Live work is no job:
it has no row, nothing of it is stored, and it ends with the call that it belongs to.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
from jaxtyping import Float

from emotivetalk.actors.serving.intake.submission import Caller
from emotivetalk.errors import InputError
from emotivetalk.limits import say_duration
from emotivetalk.request import LabelEmotion, TextEmotion, VideoSettings
from emotivetalk.timebase import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

Speech: TypeAlias = Float[np.ndarray, "samples"]  # float32, 16 kHz, mono, -1 to 1
LiveEmotion: TypeAlias = LabelEmotion | TextEmotion | None  # None: the portrait's own expression


@dataclass(frozen=True)
class LiveLimits:
    """Bounds of one live call, in seconds (the values that Audio2Face-3D's clients know).

    Attributes:
        buffer_s: of audio that waits to be rendered; beyond it the client is not read until some of it is.
        clip_s: of audio in all.
        idle_s: without a message from the client, while one is waited for.
        portrait_bytes: of the portrait's file.
    """

    buffer_s: float = 10.0
    clip_s: float = 300.0
    idle_s: float = 30.0
    portrait_bytes: int = 8_000_000


@dataclass(frozen=True)
class LiveHeader:
    """The first message of a live call.

    Attributes:
        portrait: bytes of an image file, not yet decoded.
        portrait_name: the file's name at the client, for messages.
        emotion: emotion at the start.
    """

    portrait: bytes
    portrait_name: str
    emotion: LiveEmotion = None
    settings: VideoSettings = field(default_factory=VideoSettings)


@dataclass(frozen=True)
class LiveStarted:
    """What the fragments will be.

    Attributes:
        live_id: names the call in logs.
        width, height: pixels.
        init: the file's begin (ftyp and moov).
    """

    live_id: str
    width: int
    height: int
    init: bytes


@dataclass(frozen=True)
class LiveFragment:
    """The next `num_frames` frames and their sound (moof and mdat); `index` and `start_frame` count on from 0."""

    index: int
    start_frame: int
    num_frames: int
    data: bytes


class LiveSession(Protocol):
    """One live call's work.

    The methods are called in the order in which they stand here, one at a time; only `fragments` runs beside them, and
    `close` may come at any moment.
    """

    async def open(self, caller: Caller, header: LiveHeader) -> LiveStarted:
        """Take a place on a replica and prepare the portrait.

        Raises:
            InputError: the portrait or a setting cannot be used.
            OverloadError: there is no place left.
        """
        ...

    async def push_audio(self, samples: Speech) -> None:
        """Take the speech that comes next. It may not wait for rendering: the front door holds the client back."""
        ...

    async def change_emotion(self, emotion: LiveEmotion) -> None:
        """The audio pushed from here on has this emotion."""
        ...

    async def finish(self) -> None:
        """No audio will follow: render what is there, however short."""
        ...

    def fragments(self) -> AsyncIterator[LiveFragment]:
        """The fragments in order; ends after the last one once `finish` was called.

        No more than `LiveLimits.buffer_s` of audio is pushed beyond the frames that were given out (rounded up to the
        next push), so a fragment must come by then.
        """
        ...

    async def close(self) -> None:
        """Stop at once and free everything. Called exactly once, whether or not `open` succeeded."""
        ...


LiveEngine: TypeAlias = Callable[[], LiveSession]


class LiveBuffer:
    """How much audio of one call waits to be rendered, and whether more may come."""

    def __init__(self, limits: LiveLimits) -> None:
        self._max_waiting = int(limits.buffer_s * SAMPLE_RATE_HZ)
        self._max_clip = int(limits.clip_s * SAMPLE_RATE_HZ)
        self._pushed = 0
        self._rendered = 0
        self._changed = asyncio.Event()

    def check(self, num_samples: int) -> None:
        """Raise InputError unless so many samples may still come."""
        if num_samples > self._max_waiting:
            raise InputError(
                "live_chunk_too_long",
                f"a chunk of audio is {say_duration(num_samples / SAMPLE_RATE_HZ)} long; "
                f"the limit is {say_duration(self._max_waiting / SAMPLE_RATE_HZ)}",
                "Send it in smaller chunks, a tenth of a second each, say.",
            )
        if self._pushed + num_samples > self._max_clip:
            raise InputError(
                "live_clip_too_long",
                f"the live audio is longer than {say_duration(self._max_clip / SAMPLE_RATE_HZ)}, which is the limit",
                "End the call and begin another, or create a video instead.",
            )

    async def room(self) -> None:
        """Wait until less audio than the limit waits to be rendered."""
        while self._pushed - self._rendered >= self._max_waiting:
            self._changed.clear()
            await self._changed.wait()

    def pushed(self, num_samples: int) -> None:
        """So many samples more wait to be rendered."""
        self._pushed += num_samples

    def rendered(self, num_frames: int) -> None:
        """So many frames more were given out."""
        self._rendered += num_frames * SAMPLES_PER_FRAME
        self._changed.set()

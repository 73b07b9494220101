"""The gateway's interface to live rendering: speech goes in while it is being spoken, fragments come out.

The gateway enforces the limits (`LiveLimits`) and the order of calls; the renderer implements `LiveSession`. A live call
is no job: it has no row, nothing of it is stored, and its work ends with it.
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

SpeechSamples: TypeAlias = Float[np.ndarray, "samples"]  # float32, 16 kHz, mono, -1 to 1
LiveEmotion: TypeAlias = LabelEmotion | TextEmotion | None  # None: the portrait's own expression


@dataclass(frozen=True)
class LiveLimits:
    """Limits of one live call (the values of Audio2Face-3D).

    Attributes:
        buffer_s: seconds of audio that may wait to be rendered; beyond that, the gateway stops reading.
        clip_s: seconds of audio in total.
        idle_s: seconds without a message from the client while one is expected.
        portrait_bytes: size of the portrait's file.
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
    """The properties of the fragments to come.

    Attributes:
        live_id: name of the call in logs.
        width, height: pixels.
        init: head of the file (ftyp and moov).
    """

    live_id: str
    width: int
    height: int
    init: bytes


@dataclass(frozen=True)
class LiveFragment:
    """The next `num_frames` frames and their sound (moof and mdat); `index` and `start_frame` count from 0.

    Attributes:
        lag_s: speech that had arrived and was not rendered when the fragment was finished, seconds.
        num_dropped_frames: frames that show the picture before, because the call was late.
        num_steps: denoising steps of the fragment.
    """

    index: int
    start_frame: int
    num_frames: int
    data: bytes
    lag_s: float = field(default=0.0, compare=False)  # measured, so equal fragments may differ in it
    num_dropped_frames: int = 0
    num_steps: int = 0


class LiveSession(Protocol):
    """The rendering of one live call.

    The methods are called in the order of their definition, one at a time. Only `fragments` runs concurrently, and `close`
    may be called at any time.
    """

    async def open(self, caller: Caller, header: LiveHeader) -> LiveStarted:
        """Reserve a place on a replica and prepare the portrait.

        Raises:
            InputError: the portrait or a setting is invalid.
            OverloadError: no place is free.
        """
        ...

    async def push_audio(self, samples: SpeechSamples) -> None:
        """Take the next stretch of speech, without waiting for rendering: the gateway slows the client down."""
        ...

    async def change_emotion(self, emotion: LiveEmotion) -> None:
        """Set the emotion of the audio that is pushed from now on."""
        ...

    async def finish(self) -> None:
        """End the audio: render the rest, however short."""
        ...

    def fragments(self) -> AsyncIterator[LiveFragment]:
        """Yield the fragments in order, up to the last one after `finish`.

        Raises:
            OverloadError: code "live_too_slow": the rendering lags too far behind.

        At most `LiveLimits.buffer_s` of audio (rounded up to the next push) is pushed ahead of the frames yielded, so a
        fragment must come by then.
        """
        ...

    async def close(self) -> None:
        """Stop at once and free all resources. Called exactly once, even if `open` failed."""
        ...


LiveEngine: TypeAlias = Callable[[], LiveSession]


class LiveBuffer:
    """Accounting of a call's audio that waits to be rendered."""

    def __init__(self, limits: LiveLimits) -> None:
        self._max_waiting = int(limits.buffer_s * SAMPLE_RATE_HZ)
        self._max_clip = int(limits.clip_s * SAMPLE_RATE_HZ)
        self._pushed = 0
        self._rendered = 0
        self._changed = asyncio.Event()

    def check(self, num_samples: int) -> None:
        """Raise InputError unless a chunk of `num_samples` fits the limits."""
        if num_samples > self._max_waiting:
            raise InputError(
                "live_chunk_too_long",
                f"a chunk of audio is {say_duration(num_samples / SAMPLE_RATE_HZ)} long; "
                f"the limit is {say_duration(self._max_waiting / SAMPLE_RATE_HZ)}",
                "Send smaller chunks, such as a tenth of a second each.",
            )
        if self._pushed + num_samples > self._max_clip:
            raise InputError(
                "live_clip_too_long",
                f"the live audio is longer than {say_duration(self._max_clip / SAMPLE_RATE_HZ)}, which is the limit",
                "End the call and start another, or create a video instead.",
            )

    async def room(self) -> None:
        """Wait until the waiting audio is below the limit."""
        while self._pushed - self._rendered >= self._max_waiting:
            self._changed.clear()
            await self._changed.wait()

    def pushed(self, num_samples: int) -> None:
        """Count samples that were pushed."""
        self._pushed += num_samples

    def rendered(self, num_frames: int) -> None:
        """Count frames that were delivered."""
        self._rendered += num_frames * SAMPLES_PER_FRAME
        self._changed.set()

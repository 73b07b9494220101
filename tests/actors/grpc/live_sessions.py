"""A live engine for tests: it sends back one fragment for each second of audio, and records its input."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import numpy as np

from emotivetalk.actors.errors import OverloadError
from emotivetalk.actors.serving.gateway.live_session import LiveEmotion, LiveFragment, LiveHeader, LiveStarted
from emotivetalk.actors.serving.gateway.service import Caller

SAMPLES_PER_FRAGMENT = 16_000
LAG_S = 1.25  # of the first fragment; a second more with each


@dataclass
class FakeSession:
    """Seed 1: the service is full. Seed 2: nothing is rendered until `released` is set. Seed 3: rendering fails."""

    log: list[str] = field(default_factory=list)
    header: LiveHeader | None = None
    num_pushed: int = 0
    is_closed: bool = False
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._waiting = np.zeros(0, np.float32)
        self._finished = False
        self._changed = asyncio.Event()

    async def open(self, caller: Caller, header: LiveHeader) -> LiveStarted:
        self.header = header
        if header.settings.seed == 1:
            raise OverloadError("live_full", "the limit of live calls is reached", 7.0)
        if header.settings.seed != 2:
            self.released.set()
        return LiveStarted(f"live_{caller.name}", 256, 256, b"init")

    async def push_audio(self, samples: np.ndarray) -> None:
        assert samples.dtype == np.float32 and samples.ndim == 1
        self.num_pushed += len(samples)
        self._waiting = np.concatenate([self._waiting, samples])
        self._changed.set()

    async def change_emotion(self, emotion: LiveEmotion) -> None:
        self.log.append(f"{self.num_pushed}: {emotion}")

    async def finish(self) -> None:
        self._finished = True
        self._changed.set()

    async def fragments(self) -> AsyncIterator[LiveFragment]:
        index = start = 0
        await self.released.wait()
        while not self._finished or len(self._waiting):
            if len(self._waiting) < SAMPLES_PER_FRAGMENT and not self._finished:
                self._changed.clear()
                await self._changed.wait()
                continue
            if self.header is not None and self.header.settings.seed == 3:
                raise RuntimeError("a secret of the engine")
            samples, self._waiting = (
                self._waiting[:SAMPLES_PER_FRAGMENT],
                self._waiting[SAMPLES_PER_FRAGMENT:],
            )
            num_frames = -(-len(samples) // 640)
            data = samples.astype("<f4").tobytes() + bytes(70_000)
            yield LiveFragment(index, start, num_frames, data, LAG_S + index, num_dropped_frames=index, num_steps=3)
            index, start = index + 1, start + num_frames

    async def close(self) -> None:
        assert not self.is_closed, "closed twice"
        self.is_closed = True


class Sessions:
    """Makes sessions and keeps them for the tests."""

    def __init__(self) -> None:
        self.made: list[FakeSession] = []

    def make(self) -> FakeSession:
        self.made.append(FakeSession())
        return self.made[-1]

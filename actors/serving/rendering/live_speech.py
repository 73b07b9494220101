"""The speech of a live call, kept as long as a V-AID block may need it."""

from __future__ import annotations

import asyncio

import numpy as np

from emotivetalk.actors.serving.gateway.live_session import SpeechSamples
from emotivetalk.timebase import SAMPLES_PER_FRAME


class SpeechBuffer:
    """Grows at its end and is trimmed at its start. Samples count from the beginning of the clip."""

    def __init__(self) -> None:
        self._pieces: list[SpeechSamples] = []
        self._first = 0
        self._changed = asyncio.Event()
        self.num_samples = 0
        self.is_over = False

    @property
    def num_frames(self) -> int:
        """Number of frames that have begun. Speech may cover the last one only in part."""
        return -(-self.num_samples // SAMPLES_PER_FRAME)

    def push(self, samples: SpeechSamples) -> None:
        """Append speech."""
        self._pieces.append(samples)
        self.num_samples += len(samples)
        self._changed.set()

    def finish(self) -> None:
        """Mark the end of the speech."""
        self.is_over = True
        self._changed.set()

    async def wait_for(self, num_samples: int) -> None:
        """Wait until this many samples have arrived or the speech is over."""
        while self.num_samples < num_samples and not self.is_over:
            self._changed.clear()
            await self._changed.wait()

    def read(self, start: int, stop: int) -> SpeechSamples:
        """Return samples `start` to `stop`; fewer if they have not arrived. They must not have been trimmed."""
        self._pieces = [np.concatenate(self._pieces)] if self._pieces else []
        kept = self._pieces[0] if self._pieces else np.zeros(0, np.float32)
        assert start >= self._first, f"samples before {self._first} were trimmed"
        return kept[start - self._first : max(start, stop) - self._first]

    def trim(self, before: int) -> None:
        """Drop the samples before this one."""
        rest = self.read(min(max(before, self._first), self.num_samples), self.num_samples)
        self._first = self.num_samples - len(rest)
        self._pieces = [rest.copy()]

"""The lag of a live call: speech that has arrived and is not rendered, and what to do about it.

A call that keeps up has a lag of about V-AID's look-ahead and the time to render a segment. When it grows, the call first
takes fewer denoising steps, then gives fewer pictures, and finally ends.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from emotivetalk.actors.serving.config import LiveSettings
from emotivetalk.errors import InputError, OverloadError
from emotivetalk.limits import say_duration
from emotivetalk.timebase import FRAME_RATE_HZ, SAMPLE_RATE_HZ

MAX_PICTURE_FRAMES = 4
"""Longest time that a picture stays when frames are dropped, frames."""
RETRY_AFTER_S = 10.0
# Defaults, as parts of `live.buffer_s`.
FEWER_STEPS, DROP_FRAMES, END = 0.5, 0.7, 0.95
MARGIN_S = 1.0  # the end is at least so far beyond the speech that one segment needs


@dataclass(frozen=True)
class LagLimits:
    """Lags, seconds, from which a call takes fewer steps, drops frames, and ends; in this order.

    Attributes:
        min_steps: fewest denoising steps.
    """

    fewer_steps_s: float
    drop_frames_s: float
    end_s: float
    min_steps: int = 1

    @classmethod
    def of(cls, settings: LiveSettings, needed_s: float) -> LagLimits:
        """Return the limits of the settings; those that are None follow from the buffer.

        Args:
            needed_s: speech that one segment needs. Before the first fragment, every call has a lag of as much.

        Raises:
            InputError: code "live_lag_invalid": the limits are not in order, or below `needed_s`.
        """
        buffer_s = settings.buffer_s
        given = (settings.fewer_steps_lag_s, settings.drop_frames_lag_s, settings.end_lag_s)
        parts = (FEWER_STEPS * buffer_s, DROP_FRAMES * buffer_s, END * buffer_s)
        least = (needed_s, needed_s, needed_s + MARGIN_S)
        limits = [max(by_buffer, low) if one is None else one for one, by_buffer, low in zip(given, parts, least)]
        if not needed_s <= limits[0] <= limits[1] <= limits[2]:
            raise InputError(
                "live_lag_invalid",
                f"live.fewer_steps_lag_s, drop_frames_lag_s and end_lag_s are {limits[0]:g}, {limits[1]:g} and "
                f"{limits[2]:g} s, but they must grow from at least {needed_s:g} s, the speech that a segment needs",
                "Raise them, or lower live.segment_chunks or live.look_ahead_frames.",
            )
        return cls(limits[0], limits[1], limits[2], settings.min_steps)

    def num_steps(self, lag_s: float, full: int) -> int:
        """Return the number of steps of a segment that begins at this lag; `full` is the call's own."""
        if lag_s < self.fewer_steps_s or full <= self.min_steps:
            return full
        span_s = self.drop_frames_s - self.fewer_steps_s
        kept = (self.drop_frames_s - lag_s) / span_s if span_s > 0 else 0.0
        return max(self.min_steps, min(full - 1, math.floor(full * kept)))

    def picture_frames(self, lag_s: float) -> int:
        """Return for how many frames each picture of a fragment stays: 1 drops none."""
        if lag_s < self.drop_frames_s:
            return 1
        return 2 if lag_s < (self.drop_frames_s + self.end_s) / 2 else MAX_PICTURE_FRAMES

    def check(self, lag_s: float) -> None:
        """Raise OverloadError with the code "live_too_slow" if the call has to end."""
        if lag_s >= self.end_s:
            raise OverloadError(
                "live_too_slow",
                f"the rendering is {say_duration(lag_s)} behind the speech; the limit is {say_duration(self.end_s)}",
                RETRY_AFTER_S,
                "Begin another call when the service is less busy, or with fewer steps.",
            )


class LagMeter:
    """Measures a call's lag: speech received against speech rendered, seconds.

    Speech counts from when it could have been spoken: when it has arrived, but no faster than real time. So a client that
    sends a file at once is not behind.

    Args:
        clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._coming: deque[tuple[int, float]] = deque()  # (samples up to here, due at)
        self._num_received = self._num_due = self._num_rendered = 0
        self._last_due_at = -math.inf

    def received(self, num_samples: int) -> None:
        """Count speech that has arrived."""
        self._num_received += num_samples
        self._last_due_at = max(self._clock(), self._last_due_at + num_samples / SAMPLE_RATE_HZ)
        self._coming.append((self._num_received, self._last_due_at))

    def rendered(self, num_frames: int) -> None:
        """Count frames that are ready to be sent."""
        self._num_rendered += num_frames

    @property
    def lag_s(self) -> float:
        """The lag now; never negative."""
        now = self._clock()
        while self._coming and self._coming[0][1] <= now:
            self._num_due, _ = self._coming.popleft()
        return max(0.0, self._num_due / SAMPLE_RATE_HZ - self._num_rendered / FRAME_RATE_HZ)

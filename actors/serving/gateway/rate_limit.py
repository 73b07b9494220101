"""How often a caller may ask."""

from __future__ import annotations

import time

from emotivetalk.actors.errors import RateLimitedError


class TokenBucket:
    """A rate: full at first, refilled continuously, one taken for each request."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._level = float(per_minute)
        self._at = time.monotonic()

    def take(self) -> None:
        """Take one.

        Raises:
            RateLimitedError: there is none; it says when there will be.
        """
        now = time.monotonic()
        self._level = min(self.per_minute, self._level + (now - self._at) * self.per_minute / 60)
        self._at = now
        if self._level < 1:
            raise RateLimitedError(self.per_minute, (1 - self._level) * 60 / self.per_minute)
        self._level -= 1

"""Request rates of callers."""

from __future__ import annotations

import time

from emotivetalk.actors.errors import RateLimitedError


class TokenBucket:
    """A token bucket: full at the start, refilled continuously, one token for each request."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._level = float(per_minute)
        self._updated_at = time.monotonic()

    def take(self) -> None:
        """Take a token.

        Raises:
            RateLimitedError: the bucket is empty; the error has the time until the next token.
        """
        now = time.monotonic()
        self._level = min(self.per_minute, self._level + (now - self._updated_at) * self.per_minute / 60)
        self._updated_at = now
        if self._level < 1:
            raise RateLimitedError(self.per_minute, (1 - self._level) * 60 / self.per_minute)
        self._level -= 1

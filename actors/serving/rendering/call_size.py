"""Choose how many chunks one ETHD call advances, from the measured time per chunk."""

from __future__ import annotations

from emotivetalk.actors.serving.config import DirectorSettings
from emotivetalk.actors.serving.replicas.messages import Receipt

SMOOTHING = 0.1  # weight of the newest measurement


class CallSize:
    """Makes calls long enough to outweigh their overhead, and short enough to keep all replicas busy."""

    def __init__(self, settings: DirectorSettings) -> None:
        self._settings = settings
        self._chunk_s: float | None = None

    @property
    def chunks_per_call(self) -> int:
        """The configured number, or the one that makes calls last about `call_s`; 1 before the first measurement."""
        settings = self._settings
        if settings.chunks_per_call is not None:
            return settings.chunks_per_call
        if self._chunk_s is None:
            return 1
        return max(1, min(settings.max_chunks_per_call, round(settings.call_s / self._chunk_s)))

    def record(self, receipt: Receipt, num_chunks: int) -> None:
        """Record a call of `num_chunks` chunks."""
        seconds = receipt.seconds / num_chunks
        self._chunk_s = seconds if self._chunk_s is None else (1 - SMOOTHING) * self._chunk_s + SMOOTHING * seconds

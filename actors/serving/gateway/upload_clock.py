"""Time limits of an upload: in total, and by its average speed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from emotivetalk.actors.serving.gateway.settings import GatewaySettings
from emotivetalk.errors import InputError
from emotivetalk.limits import say_duration


class UploadClock:
    """The deadline of one upload, which moves while bytes arrive; made by `upload_clock`."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._started_at = asyncio.get_running_loop().time()
        self._num_bytes = 0
        self.timeout = asyncio.timeout_at(self._deadline())

    def received(self, num_bytes: int) -> None:
        """Count bytes that have arrived."""
        self._num_bytes += num_bytes
        self.timeout.reschedule(self._deadline())

    def stop(self) -> None:
        """Lift the limit: the upload is complete."""
        self.timeout.reschedule(None)

    def error(self) -> InputError:
        """Return the error of an upload that was cut off."""
        settings = self._settings
        limit = f"the upload took longer than {say_duration(settings.upload_timeout_s)}"
        if self._allowed_s() < settings.upload_timeout_s:
            limit = (
                f"{self._num_bytes} bytes arrived in {say_duration(self._allowed_s())}; "
                f"the slowest upload is {settings.min_upload_kb_s:g} kB/s (gateway.min_upload_kb_s)"
            )
        return InputError("upload_timeout", limit, "Send smaller files, or use a faster connection.")

    def _allowed_s(self) -> float:
        settings = self._settings
        if settings.min_upload_kb_s == 0:
            return settings.upload_timeout_s
        by_speed_s = settings.upload_grace_s + self._num_bytes / (1000 * settings.min_upload_kb_s)
        return min(settings.upload_timeout_s, by_speed_s)

    def _deadline(self) -> float:
        return self._started_at + self._allowed_s()


@asynccontextmanager
async def upload_clock(settings: GatewaySettings) -> AsyncIterator[UploadClock]:
    """Limit the time of the upload that the context reads.

    Raises:
        InputError: code "upload_timeout": the upload is too slow, on average or in total.
    """
    clock = UploadClock(settings)
    try:
        async with clock.timeout:
            yield clock
    except TimeoutError as error:
        if not clock.timeout.expired():
            raise
        raise clock.error() from error

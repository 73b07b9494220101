"""Logging of all deployments: every line names its video in the field `video_id`, which tasks and calls inherit.

The lines go to Serve's log of the replica, as text or as JSON (`logging_config`). Live calls use the same field. It is not
called `job_id`, which is a field of Ray's that Serve removes.
"""

from __future__ import annotations

import copy
import logging
from contextvars import ContextVar

from emotivetalk.actors.serving.observing import tracing

PACKAGE = "emotivetalk"
SERVE = "ray.serve"  # the logger that Serve sets up in each replica

_VIDEO_ID: ContextVar[str | None] = ContextVar("video_id", default=None)


def about(video_id: str) -> None:
    """Set the video of this asyncio task and of the tasks that it starts. Their log lines name it.

    It is never reset: a task, or a call to a replica, works on one video.
    """
    _VIDEO_ID.set(video_id)


def log_with_serve() -> None:
    """Send this package's log lines to Serve's log of this replica, at Serve's level."""
    package = logging.getLogger(PACKAGE)
    package.handlers, package.propagate = [VideoLog()], False
    package.setLevel(logging.getLogger(SERVE).level or logging.INFO)


class VideoLog(logging.Handler):
    """Passes lines to Serve's handlers, with the fields `video_id` and, while a trace is recorded, `trace_id`.

    Serve's text format shows no fields, so there the id precedes the message.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on a line. Runs in the task that logs it, or in a thread in that task's context."""
        video_id = getattr(record, "video_id", None) or _VIDEO_ID.get()
        if video_id is not None:
            record.video_id = video_id
        trace_id = tracing.trace_id()
        if trace_id is not None:
            record.trace_id = trace_id
        for handler in logging.getLogger(SERVE).handlers:
            handler.handle(record if video_id is None or _is_json(handler) else _with_prefix(record, video_id))


def _is_json(handler: logging.Handler) -> bool:
    """Return True if the handler, or the one behind Serve's buffer, formats JSON."""
    formatter = getattr(handler, "target", handler).formatter
    return "JSON" in type(formatter).__name__  # Ray's formatter class is not public


def _with_prefix(record: logging.LogRecord, video_id: str) -> logging.LogRecord:
    prefixed = copy.copy(record)
    prefixed.msg, prefixed.args = f"[{video_id}] {record.getMessage()}", None
    return prefixed

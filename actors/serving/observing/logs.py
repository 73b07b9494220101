"""Every log line says which video it is about, in all deployments: one field, which goes along with a task and its calls.

The lines are written where Serve writes its own of the same replica: text, or JSON where `logging_config` says so. The
field is `video_id`, of live calls too. It is not called `job_id`: that is something of Ray's, and Serve takes it out.
"""

from __future__ import annotations

import copy
import logging
from contextvars import ContextVar

from emotivetalk.actors.serving.observing import tracing

SERVE = "ray.serve"  # the logger that Serve sets up in each replica

_VIDEO_ID: ContextVar[str | None] = ContextVar("video_id", default=None)


def about(video_id: str) -> None:
    """From here on, what this task and those that it begins do is about this video; so are their log lines.

    There is no way back: a task of asyncio, or a call to a replica, works on one video.
    """
    _VIDEO_ID.set(video_id)


def log_with_serve() -> None:
    """Send what `actors` logs to Serve's own log of this replica, from the level on that Serve has."""
    ours = logging.getLogger("actors")
    ours.handlers, ours.propagate = [VideoLog()], False
    ours.setLevel(logging.getLogger(SERVE).level or logging.INFO)


class VideoLog(logging.Handler):
    """Hands lines on to Serve's handlers, with the fields `video_id` and, while a trace is recorded, `trace_id`.

    Serve's text shows no fields, so there the id heads the message.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Called where the line is logged: in its task, or in a thread that works for it."""
        video_id = getattr(record, "video_id", None) or _VIDEO_ID.get()
        if video_id is not None:
            record.video_id = video_id
        trace_id = tracing.trace_id()
        if trace_id is not None:
            record.trace_id = trace_id
        for handler in logging.getLogger(SERVE).handlers:
            handler.handle(record if video_id is None or _is_json(handler) else _headed(record, video_id))


def _is_json(handler: logging.Handler) -> bool:
    """Serve puts a buffer before the handler that formats."""
    formatter = getattr(handler, "target", handler).formatter
    return "JSON" in type(formatter).__name__  # Ray's class is none of its public ones


def _headed(record: logging.LogRecord, video_id: str) -> logging.LogRecord:
    headed = copy.copy(record)
    headed.msg, headed.args = f"[{video_id}] {record.getMessage()}", None
    return headed

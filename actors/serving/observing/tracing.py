"""OpenTelemetry: one trace for a video, from the request that made it to its last fragment, whichever processes work on it.

The context travels as a W3C `traceparent`: in the request's headers, in the job's row, in the messages to the replicas. So a
job that another director takes over stays in its trace. The standard OTEL_* variables turn it on; without them the
API's own tracer does nothing, and a span costs some microseconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from emotivetalk.errors import EmotiveTalkError

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
HEADER = "traceparent"
ERROR = Status(StatusCode.ERROR)
NOTHING: Span = trace.INVALID_SPAN  # takes everything and keeps nothing

Attribute = str | int | float | bool
Parent = str | Span | None
"""A traceparent, or a span of this process; None is what is going on."""

_tracer: Tracer = trace.get_tracer("emotivetalk")  # of whatever provider the process gets
_propagator = TraceContextTextMapPropagator()


def is_wanted() -> bool:
    """Whether the environment asks for traces: by an endpoint of OTLP's, or by OTEL_TRACES_EXPORTER."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    named = os.environ.get("OTEL_TRACES_EXPORTER", "").strip()
    return named != "none" if named else any(os.environ.get(name) for name in ENDPOINTS)


def configure(part: str, worker: str) -> None:
    """Record and export this process's spans, if the environment asks for it. To be called once, at its start.

    Args:
        part: the deployment; the service is "emotivetalk.<part>" where OTEL_SERVICE_NAME says nothing else.
        worker: which replica of it.

    Raises:
        EmotiveTalkError: code "tracing_unavailable": it asks for an exporter that there is not.
    """
    if not is_wanted():
        return
    service = os.environ.get("OTEL_SERVICE_NAME") or f"emotivetalk.{part}"
    provider = TracerProvider(
        resource=Resource.create({"service.name": service, "service.instance.id": worker, "emotivetalk.part": part})
    )
    provider.add_span_processor(BatchSpanProcessor(_exporter()))
    trace.set_tracer_provider(provider)


def _exporter() -> SpanExporter:
    named = os.environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if named == "console":
        return ConsoleSpanExporter()
    if named != "otlp" or protocol not in (None, "", "http/protobuf"):
        raise EmotiveTalkError(
            "tracing_unavailable",
            f"traces cannot be exported by {named}{f' over {protocol}' if protocol else ''}",
            "Set OTEL_TRACES_EXPORTER to otlp, console or none, and OTEL_EXPORTER_OTLP_PROTOCOL to http/protobuf.",
        )
    try:
        # Here: it loads an HTTP client and all of OTLP's messages, which processes without traces need not.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise EmotiveTalkError(
            "tracing_unavailable",
            "the OTLP exporter is not installed",
            "pip install opentelemetry-exporter-otlp-proto-http, or set OTEL_TRACES_EXPORTER=none.",
        ) from error
    return OTLPSpanExporter()


@contextmanager
def span(
    name: str, parent: Parent = None, *, kind: SpanKind = SpanKind.INTERNAL, **attributes: Attribute
) -> Iterator[Span]:
    """What is done inside is this span, and so are the spans begun there its children. An exception is its status.

    Not for the body of an asynchronous generator: who closes that may do it in another context.
    """
    with _tracer.start_as_current_span(name, _context(parent), kind, attributes) as opened:
        yield opened


def begin(name: str, parent: Parent = None, *, start_s: float | None = None, **attributes: Attribute) -> Span:
    """A span that somebody else ends.

    Args:
        start_s: when it began, seconds since the epoch; None is now.
    """
    return _tracer.start_span(name, _context(parent), attributes=attributes, start_time=_nanoseconds(start_s))


def end(opened: Span, at_s: float | None = None) -> None:
    """End a span, now or at a time in seconds since the epoch."""
    opened.end(_nanoseconds(at_s))


def fail(opened: Span, error: BaseException) -> None:
    """Say of a span that it ended with an error that was handled inside."""
    opened.record_exception(error)
    opened.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))


def traceparent() -> str | None:
    """What is going on, for another process: `span`'s `parent` there. None where nothing is traced."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get(HEADER)


def trace_id() -> str | None:
    """Of what is going on, 32 hex digits, if it is recorded here."""
    current = trace.get_current_span()
    return trace.format_trace_id(current.get_span_context().trace_id) if current.is_recording() else None


def _context(parent: Parent) -> Context | None:
    if parent is None:
        return None
    if isinstance(parent, Span):
        return trace.set_span_in_context(parent)
    return _propagator.extract({HEADER: parent})  # empty, if it is no traceparent: a trace of its own


def _nanoseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1e9)

"""OpenTelemetry: one trace per video, from its request to its last fragment, across processes.

The context travels as a W3C `traceparent` in the request's headers, in the job's row, and in the messages to the replicas. So
a job that another director takes over stays in its trace. The standard OTEL_* variables turn tracing on. Without them
the API's tracer does nothing, and a span costs a few microseconds.
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
NOTHING: Span = trace.INVALID_SPAN  # ignores everything

Attribute = str | int | float | bool
Parent = str | Span | None
"""A traceparent, or a span of this process; None is the current span."""

_tracer: Tracer = trace.get_tracer("emotivetalk")  # delegates to the provider that the process sets later
_propagator = TraceContextTextMapPropagator()


def is_wanted() -> bool:
    """Return True if the environment asks for traces, by an OTLP endpoint or by OTEL_TRACES_EXPORTER."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    named = os.environ.get("OTEL_TRACES_EXPORTER", "").strip()
    return named != "none" if named else any(os.environ.get(name) for name in ENDPOINTS)


def configure(part: str, worker: str) -> None:
    """Record and export this process's spans if the environment asks for it. Call this once, at start-up.

    Args:
        part: the deployment. The service is "emotivetalk.<part>", unless OTEL_SERVICE_NAME is set.
        worker: name of the replica.

    Raises:
        EmotiveTalkError: code "tracing_unavailable": the exporter is unknown or not installed.
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
        # Imported here: it loads an HTTP client and all OTLP messages, which processes without traces do not need.
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
    """Open a span for the body of a `with`. Spans that begin inside are its children; an exception sets its status.

    Do not use it in an asynchronous generator, which may be closed in another context.
    """
    with _tracer.start_as_current_span(name, _context(parent), kind, attributes) as opened:
        yield opened


def begin(name: str, parent: Parent = None, *, start_s: float | None = None, **attributes: Attribute) -> Span:
    """Begin a span that `end` ends.

    Args:
        start_s: start time, seconds since the epoch; None is now.
    """
    return _tracer.start_span(name, _context(parent), attributes=attributes, start_time=_nanoseconds(start_s))


def end(opened: Span, at_s: float | None = None) -> None:
    """End a span now, or at a time in seconds since the epoch."""
    opened.end(_nanoseconds(at_s))


def fail(opened: Span, error: BaseException) -> None:
    """Mark a span as failed by an error that was handled inside."""
    opened.record_exception(error)
    opened.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))


def traceparent() -> str | None:
    """Return the current span for another process, as `parent` of its spans; None if nothing is traced."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get(HEADER)


def trace_id() -> str | None:
    """Return the id of the current trace, 32 hex digits; None if it is not recorded here."""
    current = trace.get_current_span()
    return trace.format_trace_id(current.get_span_context().trace_id) if current.is_recording() else None


def _context(parent: Parent) -> Context | None:
    if parent is None:
        return None
    if isinstance(parent, Span):
        return trace.set_span_in_context(parent)
    return _propagator.extract({HEADER: parent})  # an invalid traceparent gives an empty context: a new trace


def _nanoseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1e9)

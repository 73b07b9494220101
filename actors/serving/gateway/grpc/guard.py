"""Interceptor of every gRPC call: authentication, malformed messages, errors, spans and counters.

A call ends with a status that its client can act on, never with UNKNOWN and the text of a Python exception.
"""

from __future__ import annotations

import asyncio
import inspect
import ipaddress
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from emotivetalk.actors.errors import OverloadError
from emotivetalk.actors.serving.gateway.errors import INTERNAL, answer_to, public_error, retry_after_s
from emotivetalk.actors.serving.gateway.service import Caller, VideoService
from emotivetalk.actors.serving.observing import tracing
from emotivetalk.actors.serving.observing.meters import Meters
from emotivetalk.errors import EmotiveTalkError, InputError, InvalidRequestError

DOMAIN = "emotivetalk"
DETAILS_KEY = "grpc-status-details-bin"
# The metadata of a response should stay below 8 KiB, and a byte of a message may become three on the wire.
MAX_MESSAGE_BYTES = 800
MAX_FIELD_BYTES = 300
SERVER_ERRORS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE)
READING = ("Get", "List", "Watch", "Stream")  # polled by clients, so traced only if the client traces them

CALLER: ContextVar[Caller] = ContextVar("caller")

log = logging.getLogger(__name__)


class _Malformed:
    """Placeholder of a message that could not be parsed; an exception in the parser would end as UNKNOWN."""


@dataclass(frozen=True)
class _Method:
    """A method: full name, whether it needs no token, and whether it sends a stream of responses."""

    name: str
    is_open: bool
    is_stream: bool


class Guard(grpc.aio.ServerInterceptor):
    """Authenticates callers, and translates the errors of the servicers.

    Args:
        service: knows the tokens.
        open_services: full names of the services that need no token: health and reflection.
        meters: counters of calls, except calls of the open services.
    """

    def __init__(self, service: VideoService, open_services: tuple[str, ...], meters: Meters) -> None:
        self._service, self._meters = service, meters
        self._open = tuple(f"/{name}/" for name in open_services)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return handler  # answered with UNIMPLEMENTED
        method = str(handler_call_details.method).strip("/")
        call = _Method(method, is_open=f"/{method}".startswith(self._open), is_stream=bool(handler.response_streaming))
        inner = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream

        async def request_of(messages: AsyncIterator[Any]) -> Any:
            if handler.request_streaming:
                return _checked_stream(messages)
            return await self._only_message(messages)

        async def answer(messages: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> Any:
            async with self._answering(context, call):
                return await inner(await request_of(messages), context)

        async def answers(messages: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
            async with (
                self._answering(context, call),
                aclosing(inner(await request_of(messages), context)) as responses,
            ):
                async for response in responses:
                    yield response

        # Every method reads a stream of messages, which is the same on the wire. A handler of a single message would be
        # called when the message has come, so a client that never sends it could keep calls open without a token.
        make: Any = grpc.stream_unary_rpc_method_handler
        if handler.response_streaming:
            make = grpc.stream_stream_rpc_method_handler
        return make(
            answers if inspect.isasyncgenfunction(inner) else answer,
            request_deserializer=_safe(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    async def _only_message(self, messages: AsyncIterator[Any]) -> Any:
        """Return the message of a method that takes one.

        Raises:
            InputError: it is missing, malformed or late.
        """
        timeout_s = self._service.settings.header_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return _checked(await anext(messages, _Malformed()))
        except TimeoutError as error:
            raise InputError(
                "upload_timeout", f"the request did not arrive within {timeout_s:g} s", "Send it again."
            ) from error

    @contextmanager
    def _entering(self, context: grpc.aio.ServicerContext, call: _Method) -> Iterator[None]:
        """Authenticate the caller and count the call. Health checks and reflection need no token; single ones are free."""
        if call.is_open and not call.is_stream:
            yield
            return
        address = peer_address(context.peer())
        with self._service.admission.enter(address) as open_request:
            if not call.is_open:
                caller = self._service.authenticate(bearer_token(context), address)
                CALLER.set(caller)
                open_request.identify(caller)
            if call.is_stream:
                open_request.become_stream()
            yield

    @asynccontextmanager
    async def _answering(self, context: grpc.aio.ServicerContext, call: _Method) -> AsyncIterator[None]:
        method, is_open = call.name, call.is_open
        start, name = time.perf_counter(), method.rpartition("/")[2]
        ended = grpc.StatusCode.CANCELLED  # unless the call ends otherwise
        try:
            with self._span(context, method, is_open) as span:
                try:
                    with self._entering(context, call):
                        yield
                    ended = grpc.StatusCode.OK
                    return
                except (grpc.aio.AbortError, grpc.aio.InternalError):  # ended already; the client disconnected
                    raise
                except Exception as error:
                    if not isinstance(error, EmotiveTalkError) or answer_to(error) is INTERNAL:
                        log.exception("a gRPC call failed")
                    if isinstance(error, OverloadError):
                        self._meters.refused.add(1, error.code)
                    code, status = rich_status(error)
                    span.set_attribute("rpc.grpc.status_code", code.value[0])
                    if code in SERVER_ERRORS:
                        tracing.fail(span, error)
            ended = code
            await context.abort(code, status.message, ((DETAILS_KEY, status.SerializeToString()),))
        finally:
            if not is_open:
                self._meters.grpc_requests.add(1, name, ended.name)
                self._meters.grpc_seconds.observe(time.perf_counter() - start, name)

    @staticmethod
    def _span(context: grpc.aio.ServicerContext, method: str, is_open: bool) -> AbstractContextManager[tracing.Span]:
        parent = metadata(context, tracing.HEADER)
        if is_open or (parent is None and method.rpartition("/")[2].startswith(READING)):
            return nullcontext(tracing.NOTHING)
        return tracing.span(method, parent, kind=tracing.SpanKind.SERVER, **{"rpc.system": "grpc"})


def metadata(context: grpc.aio.ServicerContext, key: str) -> str | None:
    """Return the client's metadata of this lower-case key, or None."""
    return next((str(value) for name, value in context.invocation_metadata() or () if name == key), None)


def bearer_token(context: grpc.aio.ServicerContext) -> str | None:
    """Return the token of the metadata `authorization: Bearer <token>`, or None."""
    scheme, _, token = (metadata(context, "authorization") or "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def peer_address(peer: str) -> str | None:
    """Return the IP address of a gRPC peer ("ipv4:127.0.0.1:5000", "ipv6:%5B::1%5D:5000"), or None."""
    family, _, place = unquote(peer).partition(":")
    address = place.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        return str(ipaddress.ip_address(address)) if family in ("ipv4", "ipv6") else None
    except ValueError:
        return None


def rich_status(error: BaseException) -> tuple[grpc.StatusCode, status_pb2.Status]:
    """Return an error as google.rpc.Status with ErrorInfo and LocalizedMessage, and BadRequest and RetryInfo if they apply."""
    code = grpc.StatusCode[answer_to(error).grpc]
    public = public_error(error)
    message = clipped(str(public), MAX_MESSAGE_BYTES)
    status = status_pb2.Status(code=code.value[0], message=message)
    info = error_details_pb2.ErrorInfo(reason=public.code, domain=DOMAIN)
    if message.endswith(public.remedy):  # it was not cut off
        info.metadata["remedy"] = public.remedy
    details: list[Message] = [info, error_details_pb2.LocalizedMessage(locale="en", message=message)]
    if isinstance(error, InvalidRequestError) and error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=clipped(error.field, MAX_FIELD_BYTES), description=clipped(error.reason, MAX_FIELD_BYTES)
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    seconds = retry_after_s(error)
    if seconds is not None:
        details.append(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=seconds)))
    for detail in details:
        status.details.add().Pack(detail)
    return code, status


def clipped(text: str, max_bytes: int) -> str:
    """Cut the text to at most `max_bytes` bytes of UTF-8."""
    data = text.encode("utf-8", "replace")
    return text if len(data) <= max_bytes else data[: max_bytes - 3].decode("utf-8", "ignore") + "..."


def _safe(parse: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    def parsed(data: bytes) -> Any:
        assert parse is not None  # every generated handler has a deserializer
        try:
            return parse(data)
        except DecodeError:
            return _Malformed()

    return parsed


def _checked(request: Any) -> Any:
    if isinstance(request, _Malformed):
        raise InputError(
            "message_malformed",
            "the request is not a message of this method",
            "Generate the client from proto/emotivetalk/v1/videos.proto.",
        )
    return request


async def _checked_stream(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _checked(request)

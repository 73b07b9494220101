"""What happens to every gRPC call before and after its servicer: who asks, what cannot be parsed, what went wrong, how long.

A call is answered with a status that its client can act on, or not at all if the client has gone: never with UNKNOWN
and a Python exception's text.
"""

from __future__ import annotations

import inspect
import ipaddress
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, nullcontext
from contextvars import ContextVar
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
# All metadata of an answer should stay below 8 KiB, and a byte of a message may become three on the wire.
MAX_MESSAGE_BYTES = 800
MAX_FIELD_BYTES = 300
OURS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE)  # not the caller's mistakes
LOOKS = ("Get", "List", "Watch", "Stream")  # clients poll: what only looks is traced where its client traces it

CALLER: ContextVar[Caller] = ContextVar("caller")

log = logging.getLogger(__name__)


class _Malformed:
    """Stands for a message that could not be parsed: raising in the parser would be answered with UNKNOWN."""


class Guard(grpc.aio.ServerInterceptor):
    """Lets calls of known callers through, and translates what the servicers raise.

    Args:
        service: who knows the tokens.
        open_services: full names of the services that need no token: health and reflection.
        meters: where calls are counted; not those of the open services.
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
        is_open = f"/{method}".startswith(self._open)
        inner = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        checked = _checked_stream if handler.request_streaming else _checked

        async def answer(request: Any, context: grpc.aio.ServicerContext) -> Any:
            async with self._answering(context, method, is_open):
                return await inner(checked(request), context)

        async def answers(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
            async with (
                self._answering(context, method, is_open),
                aclosing(inner(checked(request), context)) as responses,
            ):
                async for response in responses:
                    yield response

        make: Any = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[bool(handler.request_streaming), bool(handler.response_streaming)]
        return make(
            answers if inspect.isasyncgenfunction(inner) else answer,
            request_deserializer=_safe(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    @asynccontextmanager
    async def _answering(self, context: grpc.aio.ServicerContext, method: str, is_open: bool) -> AsyncIterator[None]:
        begun, name = time.perf_counter(), method.rpartition("/")[2]
        ended = grpc.StatusCode.CANCELLED  # unless we get to know
        try:
            with self._span(context, method, is_open) as span:
                try:
                    if not is_open:
                        CALLER.set(self._service.authenticate(bearer_token(context), peer_address(context.peer())))
                    yield
                    ended = grpc.StatusCode.OK
                    return
                except (grpc.aio.AbortError, grpc.aio.InternalError):  # answered already; the client has gone
                    raise
                except Exception as error:
                    if not isinstance(error, EmotiveTalkError) or answer_to(error) is INTERNAL:
                        log.exception("a gRPC call failed")
                    if isinstance(error, OverloadError):
                        self._meters.refused.add(1, error.code)
                    code, status = rich_status(error)
                    span.set_attribute("rpc.grpc.status_code", code.value[0])
                    if code in OURS:
                        tracing.fail(span, error)
            ended = code
            await context.abort(code, status.message, ((DETAILS_KEY, status.SerializeToString()),))
        finally:
            if not is_open:
                self._meters.grpc_requests.add(1, name, ended.name)
                self._meters.grpc_seconds.observe(time.perf_counter() - begun, name)

    @staticmethod
    def _span(context: grpc.aio.ServicerContext, method: str, is_open: bool) -> AbstractContextManager[tracing.Span]:
        parent = metadata(context, tracing.HEADER)
        if is_open or (parent is None and method.rpartition("/")[2].startswith(LOOKS)):
            return nullcontext(tracing.NOTHING)
        return tracing.span(method, parent, kind=tracing.SpanKind.SERVER, **{"rpc.system": "grpc"})


def metadata(context: grpc.aio.ServicerContext, key: str) -> str | None:
    """What the client sent under this key, which has no capitals; None if it sent nothing."""
    return next((str(value) for name, value in context.invocation_metadata() or () if name == key), None)


def bearer_token(context: grpc.aio.ServicerContext) -> str | None:
    """The token of the metadata `authorization: Bearer <token>`, or None."""
    scheme, _, token = (metadata(context, "authorization") or "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def peer_address(peer: str) -> str | None:
    """The IP address in what gRPC calls the peer ("ipv4:127.0.0.1:5000", "ipv6:%5B::1%5D:5000"); None if there is none."""
    family, _, place = unquote(peer).partition(":")
    address = place.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        return str(ipaddress.ip_address(address)) if family in ("ipv4", "ipv6") else None
    except ValueError:
        return None


def rich_status(error: BaseException) -> tuple[grpc.StatusCode, status_pb2.Status]:
    """An error as google.rpc.Status: ErrorInfo and LocalizedMessage always, BadRequest and RetryInfo where they apply."""
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
    """The text, cut so that it has at most so many bytes of UTF-8."""
    data = text.encode("utf-8", "replace")
    return text if len(data) <= max_bytes else data[: max_bytes - 3].decode("utf-8", "ignore") + "..."


def _safe(parse: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    def parsed(data: bytes) -> Any:
        assert parse is not None  # every generated handler has one
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

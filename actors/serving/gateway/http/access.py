"""Dependencies of the routes: the service behind the application, the authenticated caller, and its rate limit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from emotivetalk.actors.serving.gateway.admission import OpenRequest
from emotivetalk.actors.serving.gateway.service import Caller, VideoService
from emotivetalk.errors import EmotiveTalkError

LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1"}
bearer = HTTPBearer(auto_error=False, description="A token of this service, unless it admits anonymous callers.")


def the_service(request: Request) -> VideoService:
    """Return the service behind the app."""
    return request.app.state.service_provider()


ServiceDependency = Annotated[VideoService, Depends(the_service)]


async def entered(request: Request, service: ServiceDependency) -> AsyncIterator[OpenRequest]:
    """Count the request for its address until the response is sent."""
    with service.admission.enter(_address(request)) as open_request:
        yield open_request


EnteredRequest = Annotated[OpenRequest, Depends(entered)]


async def authenticated(
    request: Request,
    service: ServiceDependency,
    open_request: EnteredRequest,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> Caller:
    """Return the caller, and count the request among those that the caller has open."""
    token = None if credentials is None else credentials.credentials
    caller = service.authenticate(token, _address(request))
    if caller.name == "":
        _check_origin(request)
    open_request.identify(caller)
    return caller


async def admitted(service: ServiceDependency, caller: Annotated[Caller, Depends(authenticated)]) -> Caller:
    """Return the caller, and count the request against its rate."""
    service.admit(caller)
    return caller


async def streaming(open_request: EnteredRequest, caller: Annotated[Caller, Depends(admitted)]) -> Caller:
    """Return the caller, and count the request as a stream."""
    open_request.become_stream()
    return caller


def _address(request: Request) -> str | None:
    return request.client.host if request.client else None


StreamingCaller = Annotated[Caller, Depends(streaming)]
KnownCaller = Annotated[Caller, Depends(authenticated)]
CountedCaller = Annotated[Caller, Depends(admitted)]


def _check_origin(request: Request) -> None:
    """Refuse anonymous requests of web pages: anonymous access is for programs on this machine."""
    for header, value in (("Origin", request.headers.get("origin")), ("Host", request.headers.get("host"))):
        if value is None:
            continue
        try:
            host = urlsplit(value if "//" in value else f"//{value}").hostname
        except ValueError:
            host = None
        if host not in LOCAL_HOSTS:
            raise EmotiveTalkError(
                "origin_forbidden",
                f"anonymous requests must come from this machine, but the {header} is {value[:100]!r}",
                "Use a bearer token.",
            )

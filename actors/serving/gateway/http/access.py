"""Who calls: the service behind the application, authentication and rate, as dependencies of the routes."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from emotivetalk.actors.serving.gateway.service import Caller, VideoService
from emotivetalk.errors import EmotiveTalkError

LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1"}
bearer = HTTPBearer(auto_error=False, description="A token of this service, unless it admits anonymous callers.")


def the_service(request: Request) -> VideoService:
    """Return the service behind the app."""
    return request.app.state.service_provider()


ServiceDependency = Annotated[VideoService, Depends(the_service)]


async def authenticated(
    request: Request,
    service: ServiceDependency,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> Caller:
    """Return the caller."""
    token = None if credentials is None else credentials.credentials
    caller = service.authenticate(token, request.client.host if request.client else None)
    if caller.name == "":
        _check_origin(request)
    return caller


async def admitted(service: ServiceDependency, caller: Annotated[Caller, Depends(authenticated)]) -> Caller:
    """Return the caller, and count the request against its rate."""
    service.admit(caller)
    return caller


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

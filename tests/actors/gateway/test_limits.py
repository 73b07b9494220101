"""A caller, or an address, that opens more than it may disturbs nobody else."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import httpx
import pytest

from emotivetalk.actors.errors import OverloadError
from emotivetalk.actors.serving.gateway.admission import Admission
from emotivetalk.actors.serving.gateway.settings import CallerLimits, GatewaySettings
from emotivetalk.actors.serving.gateway.upload_clock import upload_clock
from emotivetalk.actors.serving.intake.submission import Caller
from emotivetalk.errors import InputError
from tests.actors.gateway.conftest import Serve, client_of, create
from tests.actors.gateway.serving import OTHER_TOKEN, TOKEN, Serving
from tests.processes import wait_until

PROMPT_S = 5.0  # generous: a blocked service does not answer at all
MANY = CallerLimits(requests_per_minute=100_000, max_requests=400, max_streams=400, max_concurrent_jobs=1000)
OPEN_TO_MANY = {"limits": MANY, "max_requests_per_address": 1000, "max_streams_per_address": 1000}


@contextmanager
def connections(serving: Serving, number: int, head: str) -> Iterator[list[socket.socket]]:
    """Open connections that each send this and then nothing more."""
    url = urlsplit(serving.url)
    opened = []
    try:
        for _ in range(number):
            opened.append(socket.create_connection((url.hostname, url.port), timeout=30))
            opened[-1].sendall(head.encode())
        yield opened
    finally:
        for connection in opened:
            connection.close()


def status(connection: socket.socket) -> int:
    """Return the status of the response that has come."""
    return int(connection.recv(4096).split()[1])


def events_of(client: httpx.Client) -> str:
    video = create(client)
    return f"GET /v1/videos/{video['id']}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"


SLOW_BODY = (
    f"POST /v1/videos HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nIdempotency-Key: {{}}\r\n"
    "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 100000\r\n\r\n--x\r\n"
)


def check_others(serving: Serving) -> None:
    """Another token lists its videos, and health checks are answered, promptly."""
    with client_of(serving, OTHER_TOKEN) as other:
        for path in ("/v1/videos", "/healthz", "/readyz"):
            assert other.get(path, timeout=PROMPT_S).status_code == 200, path


def test_hundreds_of_event_streams_disturb_nobody(serve: Serve) -> None:
    serving = serve(**OPEN_TO_MANY)
    with client_of(serving) as client, connections(serving, 300, events_of(client)) as opened:
        assert {status(connection) for connection in opened} == {200}
        assert serving.service.admission.num_open("streams") == 300
        check_others(serving)
    wait_until(lambda: serving.service.admission.num_open("streams") == 0)


def test_hundreds_of_slow_bodies_disturb_nobody(serve: Serve) -> None:
    serving = serve(**OPEN_TO_MANY, upload_grace_s=60.0)
    with connections(serving, 300, SLOW_BODY.format("key")):
        wait_until(lambda: serving.service.admission.num_open("requests") == 300)
        check_others(serving)
    wait_until(lambda: serving.service.admission.num_open("requests") == 0)


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ({"limits": CallerLimits(max_streams=3)}, "too_many_streams"),
        ({"max_streams_per_address": 3}, "address_busy"),
        ({"max_streams": 3}, "gateway_busy"),
    ],
)
def test_more_streams_than_allowed_are_refused(serve: Serve, limit: dict, code: str) -> None:
    serving = serve(**limit)
    with client_of(serving) as client, connections(serving, 3, head := events_of(client)) as opened:
        assert {status(connection) for connection in opened} == {200}
        url = head.split()[1]
        refused = client.get(url)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, code)
        assert int(refused.headers["retry-after"]) >= 1 and "3 streams" in refused.json()["error"]["message"]
        assert client.get(url.removesuffix("/events")).status_code == 200  # a stream takes no request's place
        opened[0].close()
        wait_until(lambda: serving.service.admission.num_open("streams") == 2)
        with client.stream("GET", url) as again:
            assert again.status_code == 200


@pytest.mark.parametrize(
    ("limit", "code", "others_are_served"),
    [
        ({"limits": CallerLimits(max_requests=3)}, "too_many_requests", True),
        ({"max_requests_per_address": 3}, "address_busy", False),
        ({"max_requests": 3}, "gateway_busy", False),
    ],
)
def test_more_requests_than_allowed_are_refused(serve: Serve, limit: dict, code: str, others_are_served: bool) -> None:
    serving = serve(**limit)
    with connections(serving, 3, SLOW_BODY.format("key")), client_of(serving, OTHER_TOKEN) as other:
        wait_until(lambda: serving.service.admission.num_open("requests") == 3)
        with client_of(serving) as client:
            refused = client.get("/v1/videos")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, code)
        assert int(refused.headers["retry-after"]) >= 1
        assert other.get("/healthz").status_code == other.get("/readyz").status_code == 200
        assert other.get("/v1/videos").status_code == (200 if others_are_served else 429)
    wait_until(lambda: serving.service.admission.num_open("requests") == 0)


def test_a_request_without_a_valid_token_is_counted_for_its_address(serve: Serve) -> None:
    serving = serve(max_requests_per_address=1)
    with connections(serving, 1, SLOW_BODY.format("key")), client_of(serving, "nobody-has-this-token") as client:
        wait_until(lambda: serving.service.admission.num_open("requests") == 1)
        assert client.get("/v1/videos").json()["error"]["code"] == "address_busy"


def test_counts_return_to_zero() -> None:
    settings = GatewaySettings(max_requests=2, max_streams=1, allow_anonymous=True)
    admission, alice = Admission(settings), Caller("alice", CallerLimits(max_requests=1))
    with admission.enter("10.0.0.1") as first:
        first.identify(alice)
        with admission.enter("10.0.0.2") as second:
            with pytest.raises(OverloadError) as raised:
                second.identify(alice)
            assert raised.value.code == "too_many_requests"
            first.become_stream()
            second.identify(alice)
            with pytest.raises(OverloadError) as raised:
                second.become_stream()
            assert raised.value.code == "gateway_busy"
    assert admission.num_open("requests") == admission.num_open("streams") == 0
    assert not admission._open  # callers and addresses that are gone take no memory


# ------------------------------------------------------------------------------------------------------- slow clients


def trickle(connection: socket.socket, data: bytes, timeout_s: float = 20.0) -> bytes:
    """Send a byte every 50 ms until the server closes the connection; return its answer."""
    deadline = time.monotonic() + timeout_s
    connection.settimeout(0.05)
    answer = b""
    while time.monotonic() < deadline:
        try:
            received = connection.recv(65536)
        except TimeoutError:
            with suppress(ConnectionError):  # an answer that has arrived can still be read
                connection.sendall(data)
        except ConnectionError:
            return answer
        else:
            if not received:
                return answer
            answer += received
    raise AssertionError("the server keeps the connection open")


def test_a_body_that_trickles_is_cut_off(serve: Serve) -> None:
    serving = serve(upload_grace_s=0.4, min_upload_kb_s=1.0)
    with connections(serving, 1, SLOW_BODY.format("key")) as (connection,):
        head, _, body = trickle(connection, b"a").partition(b"\r\n\r\n")
        assert b" 408 " in head.splitlines()[0] and b"connection: close" in head.lower()
        error = json.loads(body)["error"]
        assert error["code"] == "upload_timeout" and "1 kB/s" in error["message"]
    wait_until(lambda: not serving.leftovers())


def test_an_upload_may_take_longer_than_the_grace_while_it_is_fast_enough() -> None:
    settings = GatewaySettings(upload_grace_s=0.1, min_upload_kb_s=1.0, upload_timeout_s=60.0, allow_anonymous=True)

    async def run(chunk_bytes: int) -> None:
        async with upload_clock(settings) as clock:
            for _ in range(10):
                await asyncio.sleep(0.05)
                clock.received(chunk_bytes)

    asyncio.run(run(10_000))
    with pytest.raises(InputError) as raised:
        asyncio.run(run(1))
    assert raised.value.code == "upload_timeout"


@pytest.mark.parametrize("head", ["", "GET /v1/videos HTTP/1.1\r\nHost: x\r\nx-long: "], ids=["nothing", "half"])
def test_half_sent_requests_are_closed(serve: Serve, head: str) -> None:
    serving = serve(header_timeout_s=0.4)
    with connections(serving, 20, head) as opened:
        if head:
            assert trickle(opened.pop(), b"x")[:13] in (b"", b"HTTP/1.1 408 ")  # bytes that come do not extend the time
        for connection in opened:
            connection.settimeout(20.0)
            assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")
            assert connection.recv(65536) == b""


def test_a_connection_is_kept_between_requests(serve: Serve) -> None:
    serving = serve(header_timeout_s=1.5)
    request = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with connections(serving, 1, request) as (connection,):
        assert status(connection) == 200
        time.sleep(1.7)  # longer than a head may take
        connection.sendall(request.encode())
        assert status(connection) == 200


def test_a_body_that_outlasts_its_response_is_cut_off(serve: Serve) -> None:
    serving = serve(header_timeout_s=0.3)
    head = "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    with connections(serving, 1, head) as (connection,):
        assert status(connection) == 200
        assert b"200" not in trickle(connection, b"a")

"""Webhooks: signed as Standard Webhooks requires, repeated after a failure, never sent to a private address."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from emotivetalk.actors.serving.gateway.settings import GatewaySettings, SettingsError
from emotivetalk.actors.serving.jobs.store import JobError, JobStore
from emotivetalk.actors.serving.jobs.webhooks import WebhookSender
from tests.actors.fake_backend import MODEL, FakeDirector
from tests.actors.gateway.conftest import SECRET, Serve, client_of, create, files
from tests.actors.gateway.serving import Serving
from tests.processes import wait_until


class Receiver(ThreadingHTTPServer):
    """Records webhooks. Answers with `statuses` in order, then with 204."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.hangs = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/hook"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Receiver)
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
        if self.server.hangs.is_set():
            self.server.hangs.wait(5)
            return
        status = self.server.statuses.pop(0) if self.server.statuses else 204
        self.send_response(status)
        if status == 302:
            self.send_header("location", self.server.url)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class names it so
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield receiver
    receiver.shutdown()
    receiver.server_close()


def send(serving: Serving) -> int:
    return asyncio.run(WebhookSender(serving.jobs, serving.service.settings, MODEL.name).send_due())


def ended(client: httpx.Client, url: str) -> dict:
    video = create(client, webhook_url=url)
    wait_until(lambda: client.get(f"/v1/videos/{video['id']}").json()["status"] in ("completed", "failed"))
    return client.get(f"/v1/videos/{video['id']}").json()


def test_a_completed_video_is_reported_once(
    client: httpx.Client, serving: Serving, director: FakeDirector, receiver: Receiver
) -> None:
    video = ended(client, receiver.url)
    assert send(serving) == 1 and send(serving) == 0
    [(headers, body)] = receiver.received
    message = Webhook(SECRET).verify(body, headers)
    assert message["type"] == "video.completed"
    assert message["data"] == video
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body + b" ", headers)


def test_a_failed_video_is_reported(
    client: httpx.Client, serving: Serving, director: FakeDirector, receiver: Receiver
) -> None:
    director.fails_with = JobError("emotion_invalid", "no emotion can be made out")
    ended(client, receiver.url)
    send(serving)
    message = Webhook(SECRET).verify(receiver.received[0][1], receiver.received[0][0])
    assert message["type"] == "video.failed"
    assert message["data"]["error"] == {"code": "emotion_invalid", "message": "no emotion can be made out"}


def test_a_failed_delivery_is_repeated_with_the_same_id(
    client: httpx.Client, serving: Serving, director: FakeDirector, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.statuses = [500, 302]  # redirects are not followed, since they could lead to a private address
    ended(client, receiver.url)
    later = [0.0]
    clock = serving.jobs._clock
    monkeypatch.setattr(serving.jobs, "_clock", lambda: clock() + later[0])
    for attempt in range(3):
        assert send(serving) == 1 and send(serving) == 0  # the next attempt is not due yet
        assert len(receiver.received) == attempt + 1
        later[0] += 1000
    assert send(serving) == 0
    first, *others = receiver.received
    for headers, body in others:
        assert headers["webhook-id"] == first[0]["webhook-id"] and body == first[1]
        Webhook(SECRET).verify(body, headers)


def test_a_delivery_to_a_hanging_receiver_times_out(serve: Serve, receiver: Receiver) -> None:
    serving = serve(webhook_timeout_s=0.2)
    receiver.hangs.set()
    director = FakeDirector(serving.jobs, serving.artifacts)
    director.start()
    with client_of(serving) as client:
        ended(client, receiver.url)
    director.stop()
    assert send(serving) == 1
    assert len(receiver.received) == 1 and send(serving) == 0
    receiver.hangs.clear()


def test_private_addresses_are_refused(
    client: httpx.Client, serving: Serving, director: FakeDirector, receiver: Receiver, serve: Serve
) -> None:
    ended(client, receiver.url.replace("127.0.0.1", "localhost"))
    strict = serving.service.settings.model_copy(update={"allow_private_urls": False})
    assert asyncio.run(WebhookSender(serving.jobs, strict, MODEL.name).send_due()) == 1
    assert receiver.received == []
    with client_of(serve(allow_private_urls=False)) as other:
        for host in ("localhost", "[::1]", "169.254.169.254", "2130706433", "0x7f000001", "0177.0.0.1", "127.1"):
            url = f"http://{host}/x"
            answer = other.post("/v1/videos", files=files(), data={"webhook_url": url})
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "url_private")


def test_without_a_secret_there_are_no_webhooks(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMOTIVETALK_WEBHOOK_SECRET", raising=False)
    serving = serve(webhook_secret=None)
    with client_of(serving) as client:
        answer = client.post("/v1/videos", files=files(), data={"webhook_url": "https://example.org"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "webhooks_disabled")
    with pytest.raises(SettingsError, match="no secret"):
        WebhookSender(serving.jobs, serving.service.settings, MODEL.name)
    wrong = GatewaySettings.model_validate({"webhook_secret": "whsec_é"})
    with pytest.raises(SettingsError, match="not base64"):
        WebhookSender(serving.jobs, wrong, MODEL.name)


def test_the_sender_runs_until_it_is_cancelled(
    client: httpx.Client, serving: Serving, director: FakeDirector, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emotivetalk.actors.errors import JobStoreError

    ended(client, receiver.url)
    find = serving.jobs.pending_deliveries
    errors = [JobStoreError("job_store_unavailable", "the database is unreachable", "Wait.")]

    def pending(limit: int = 20) -> list:
        if errors:
            raise errors.pop()
        return find(limit)

    monkeypatch.setattr(JobStore, "pending_deliveries", lambda self, limit: pending(limit))

    async def run() -> None:
        task = asyncio.create_task(WebhookSender(serving.jobs, serving.service.settings, MODEL.name).run(pause_s=0.02))
        while not receiver.received:
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()

    asyncio.run(run())
    assert len(receiver.received) == 1

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from emotivetalk.actors.serving.gateway.service import Intake
from emotivetalk.actors.serving.gateway.settings import BatchSettings, CallerLimits, GatewaySettings
from tests.actors.fake_backend import FACE, SPEECH, FakeDirector, fake_prepare
from tests.actors.gateway.serving import OTHER_TOKEN, TOKEN, Server, Serving

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SETTINGS = GatewaySettings(
    limits=CallerLimits(max_upload_mb=2, requests_per_minute=100_000, max_concurrent_jobs=1000),
    poll_s=0.02,
    heartbeat_s=0.15,
    playlist_wait_s=5.0,
    webhook_secret=SECRET,  # type: ignore[arg-type]
    webhook_timeout_s=2.0,
    allow_private_urls=True,
    batches=BatchSettings(poll_s=0.02, rows_ahead=4),
)

Serve = Callable[..., Serving]


def start(folder: Path, tools: Intake | None = None, **changes: object) -> Server:
    folder.mkdir()
    (folder / "tokens").write_text(f"alice: {TOKEN}\nbob: {OTHER_TOKEN}\n")
    settings = SETTINGS.model_dump() | {"tokens_file": folder / "tokens"} | changes
    return Server(folder, GatewaySettings.model_validate(settings), tools or Intake(prepare=fake_prepare))


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Return a function that starts a service with changed settings. All of them are stopped after the test."""
    servers: list[Server] = []

    def start_one(tools: Intake | None = None, **changes: object) -> Serving:
        servers.append(start(tmp_path / f"service-{len(servers)}", tools, **changes))
        return servers[-1].serving

    yield start_one
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A service shared by the tests whose requests are all refused."""
    server = start(tmp_path_factory.mktemp("refusing") / "service")
    yield server.serving
    server.stop()


@pytest.fixture
def serving(serve: Serve) -> Serving:
    return serve()


@pytest.fixture
def client(serving: Serving) -> Iterator[httpx.Client]:
    with client_of(serving) as client:
        yield client


@pytest.fixture
def director(serving: Serving) -> Iterator[FakeDirector]:
    """A director that completes jobs at once."""
    director = FakeDirector(serving.jobs, serving.artifacts)
    director.start()
    yield director
    director.stop()


@pytest.fixture
def gated(serving: Serving) -> Iterator[FakeDirector]:
    """A director that publishes one segment each time its gate is released."""
    director = FakeDirector(serving.jobs, serving.artifacts, threading.Semaphore(0))
    director.start()
    yield director
    director.stop()


def client_of(serving: Serving, token: str | None = TOKEN) -> httpx.Client:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return httpx.Client(base_url=serving.url, headers=headers, timeout=120, trust_env=False)


def files(portrait: bytes = FACE, audio: bytes = SPEECH, **more: bytes) -> dict[str, tuple[str, bytes]]:
    """Return the files of a form. The default speech lasts 3.5 s: 87 frames in nine segments."""
    return {name: (f"my {name}.bin", data) for name, data in {"portrait": portrait, "audio": audio, **more}.items()}


def create(client: httpx.Client, **fields: object) -> dict:
    answer = client.post("/v1/videos", files=files(), data={name: str(value) for name, value in fields.items()})
    assert answer.status_code == 200, answer.text
    return answer.json()

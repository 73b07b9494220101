"""The gRPC and HTTP servers on free ports, with real stores and a director that publishes without rendering."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import numpy as np
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from emotivetalk.actors.serving.gateway.grpc.server import GrpcServer, TlsFiles, start_grpc_server
from emotivetalk.actors.serving.gateway.http.app import http_app
from emotivetalk.actors.serving.gateway.live_session import LiveLimits
from emotivetalk.actors.serving.gateway.service import Intake, VideoService
from emotivetalk.actors.serving.gateway.settings import CallerLimits, GatewaySettings
from emotivetalk.actors.serving.jobs.artifacts import ArtifactStore
from emotivetalk.actors.serving.jobs.store import Claim, Job, JobError, JobStore
from emotivetalk.actors.serving.observing.meters import Meters
from emotivetalk.client import Client
from emotivetalk.wire import videos_pb2_grpc as pb_grpc
from tests.actors.fake_backend import MODEL, FakeDirector, fake_prepare
from tests.actors.grpc.live_sessions import Sessions

ALICE, BOB = "alice-0123456789abcdef", "bob-0123456789abcdef"
SLOW = [f"slow{number}-0123456789abcdef" for number in range(3)]  # one request a minute each, so each test has its own
# A client on a busy machine can be silent for more than half a second, so only the tests of idle_s use a short one.
LIVE = LiveLimits(buffer_s=2.0, clip_s=8.0, idle_s=30.0, portrait_bytes=100_000)
FAILS, STALLS = 13, 14  # seeds of jobs that fail, and of jobs that stay in progress after their first segment
FRAGMENT_BYTES = 150_000


class SeededDirector(FakeDirector):
    """A FakeDirector whose fragments have 150 kB, and which fails or stalls the jobs of two seeds."""

    frames_per_segment = 25

    def fragment(self, job: Job, index: int) -> bytes:
        return np.random.default_rng([job.request["seed"], index]).bytes(FRAGMENT_BYTES)

    def may_publish(self, claim: Claim, index: int) -> bool:
        if claim.job.request["seed"] == FAILS:
            self.jobs.fail(claim, JobError("face_missing", "there is no face in the portrait"))
            return False
        return claim.job.request["seed"] != STALLS or index == 0


class Loop:
    """An event loop in a thread, as in a gateway replica."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine, timeout_s: float = 20.0):
        future: Future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        return future.result(timeout_s)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


class HttpServer:
    """The HTTP server of the same service, in the same event loop."""

    def __init__(self, loop: Loop, service: VideoService) -> None:
        app = http_app(lambda: service, service.settings)
        config = uvicorn.Config(app, "127.0.0.1", 0, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._serving = asyncio.run_coroutine_threadsafe(self._server.serve(), loop.loop)
        while not self._server.started:
            assert not self._serving.done(), self._serving.result()
            time.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        self._server.should_exit = True
        self._serving.result(10)


@dataclass
class Serving:
    """The parts behind the server that tests inspect."""

    loop: Loop
    jobs: JobStore
    artifacts: ArtifactStore
    service: VideoService
    server: GrpcServer
    sessions: Sessions
    folder: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def stored(self) -> tuple[list[str], int]:
        """Return the ids of the jobs that have files, and the number of jobs in the database."""
        folder = self.folder / "artifacts" / "jobs"
        folders = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        return folders, sum(self.jobs.counts().values())

    def uploads(self) -> list[Path]:
        return list((self.folder / "uploads").iterdir())


@contextmanager
def running(
    folder: Path,
    tls: TlsFiles | None = None,
    live: bool = True,
    live_limits: LiveLimits = LIVE,
    meters: Meters | None = None,
    **settings: object,
) -> Iterator[Serving]:
    """Run a gRPC server with its own stores."""
    (folder / "uploads").mkdir(parents=True)
    tokens = folder / "tokens"
    tokens.write_text(f"alice: {ALICE}\nbob: {BOB}\n" + "".join(f"{token[:5]}: {token}\n" for token in SLOW))
    values: dict = {
        "tokens_file": tokens,
        "upload_folder": folder / "uploads",
        "poll_s": 0.02,
        "limits": CallerLimits(max_upload_mb=2, requests_per_minute=100_000, max_concurrent_jobs=1000),
        "limits_by_name": {token[:5]: CallerLimits(requests_per_minute=1) for token in SLOW},
        "upload_timeout_s": 2.0,
    }
    loop = Loop()
    jobs = JobStore(f"sqlite:///{folder / 'jobs.db'}")
    artifacts = ArtifactStore(str(folder / "artifacts"))
    sessions = Sessions()

    async def start() -> tuple[VideoService, GrpcServer]:
        tools = Intake(prepare=fake_prepare)
        service = VideoService(jobs, artifacts, GatewaySettings(**values | settings), MODEL, tools)
        server = await start_grpc_server(
            service,
            "127.0.0.1",
            0,
            tls=tls,
            live=sessions.make if live else None,
            live_limits=live_limits,
            meters=meters,
        )
        return service, server

    service, server = loop.run(start())
    director = SeededDirector(jobs, artifacts)
    director.start()
    try:
        yield Serving(loop, jobs, artifacts, service, server, sessions, folder)
    finally:
        director.stop()
        loop.run(server.stop(grace_s=0))
        service.close()
        jobs.close()
        loop.stop()


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with running(tmp_path_factory.mktemp("serving")) as started:
        yield started


@pytest.fixture(scope="session")
def channel(serving: Serving) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(serving.address) as opened:
        yield opened


@pytest.fixture(scope="session")
def stub(channel: grpc.Channel) -> pb_grpc.VideoServiceStub:
    return pb_grpc.VideoServiceStub(channel)


@pytest.fixture(scope="session")
def http_port(serving: Serving) -> Iterator[int]:
    server = HttpServer(serving.loop, serving.service)
    yield server.port
    server.stop()


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, serving: Serving, http_port: int) -> Iterator[Client]:
    """A client for each protocol: every test that uses it runs twice."""
    address = f"http://127.0.0.1:{http_port}" if request.param == "http" else serving.address
    with Client(address, ALICE, protocol=request.param, timeout_s=15) as made:
        yield made


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """A self-signed certificate for localhost."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = TlsFiles(folder / "certificate.pem", folder / "key.pem")
    files.certificate.write_bytes(made.public_bytes(Encoding.PEM))
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files

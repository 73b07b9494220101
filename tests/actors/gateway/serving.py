"""The HTTP service without a model: uvicorn on a free port and real stores."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from emotivetalk.actors.serving.batches.runner import BatchRunner
from emotivetalk.actors.serving.gateway.http.app import http_app
from emotivetalk.actors.serving.gateway.http.batches import HttpFront
from emotivetalk.actors.serving.gateway.http.connections import timed_protocol
from emotivetalk.actors.serving.gateway.service import Intake, VideoService
from emotivetalk.actors.serving.gateway.settings import GatewaySettings
from emotivetalk.actors.serving.jobs.artifacts import ArtifactStore
from emotivetalk.actors.serving.jobs.store import JobStore
from tests.actors.fake_backend import MODEL

TOKEN, OTHER_TOKEN = "alice-has-this-token", "bob-has-another-token"


@dataclass
class Serving:
    """A running service and its stores."""

    url: str
    service: VideoService
    folder: Path

    @property
    def jobs(self) -> JobStore:
        return self.service.jobs

    @property
    def artifacts(self) -> ArtifactStore:
        return self.service.artifacts

    def leftovers(self) -> list[Path]:
        """List the uploads and the folders of jobs that still exist."""
        return [*(self.folder / "uploads").iterdir(), *(self.folder / "artifacts").glob("jobs/*")]


class Server:
    """Runs uvicorn in a thread."""

    def __init__(self, folder: Path, settings: GatewaySettings, tools: Intake) -> None:
        (folder / "uploads").mkdir()
        settings = settings.model_copy(update={"upload_folder": folder / "uploads"})
        jobs = JobStore(f"sqlite:///{folder}/jobs.db")
        service = VideoService(jobs, ArtifactStore(f"{folder}/artifacts"), settings, MODEL, tools)
        protocol = timed_protocol(settings.header_timeout_s)
        app = http_app(lambda: service, settings)
        # A busy machine can be silent for longer than uvicorn's 5 s.
        config = uvicorn.Config(app, port=0, log_level="error", lifespan="off", http=protocol, timeout_keep_alive=60)
        self._server = uvicorn.Server(config)
        self._runner = BatchRunner(service, HttpFront(MODEL.name), "test")
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.serving = Serving(f"http://127.0.0.1:{port}", service, folder)

    async def _run(self) -> None:
        batches = asyncio.create_task(self._runner.run())
        await self._server.serve()
        batches.cancel()
        await asyncio.gather(batches, return_exceptions=True)

    def stop(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)
        self.serving.service.close()
        self.serving.jobs.close()

"""The application's arguments in Ray Serve's YAML (`serve_configs/`): everything but replicas and resources.

Those stand beside them in Serve's own schema, under each deployment's name.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from emotivetalk.actors.serving.gateway.settings import GatewaySettings

DATA_ENV = "EMOTIVETALK_DATA"


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DirectorSettings(_Config):
    """Of each director.

    Attributes:
        slots: jobs that it drives at the same time.
        lease_s: a job whose director says nothing for so long is taken over.
        renew_s: how often it says something, and learns that a job was cancelled.
        poll_s: how often it looks for jobs when it has a free slot.
        segments_ahead: segments of a job that may be under way.
        ethd_in_flight, vaid_in_flight, decoder_in_flight: a job's calls at the same time. Four for each ETHD replica
            let arguments arrive while one computes, and even out that calls are not spread evenly: two gave 8 replicas
            0.87 of what they could do, four 0.97.
        calls_in_flight: to ETHD, of all its jobs.
        chunks_per_call: adjacent chunks in one call to ETHD; None: as many as last for about `call_s`, at most
            `max_chunks_per_call`. It changes nothing in the video.
        attempts: runs over a job's graph, if results are lost with their node.
        call_attempts: how often a call is sent whose replica dies.
        max_attempts: directors that may begin a job and die without having published a segment.
    """

    slots: int = Field(default=4, ge=1)
    lease_s: float = Field(default=15.0, gt=0)
    renew_s: float = Field(default=0.5, gt=0)
    poll_s: float = Field(default=0.5, gt=0)
    segments_ahead: int = Field(default=3, ge=1)
    ethd_in_flight: int = Field(default=8, ge=1)
    vaid_in_flight: int = Field(default=1, ge=1)
    decoder_in_flight: int = Field(default=2, ge=1)
    calls_in_flight: int = Field(default=64, ge=1)
    chunks_per_call: int | None = Field(default=None, ge=1)
    call_s: float = Field(default=0.12, gt=0)
    max_chunks_per_call: int = Field(default=4, ge=1)
    attempts: int = Field(default=3, ge=1)
    call_attempts: int = Field(default=20, ge=1)
    max_attempts: int = Field(default=8, ge=1)


class GrpcSettings(_Config):
    """Where each gateway listens for gRPC. Several gateways on one machine share the port.

    Attributes:
        host: an address of this machine; loopback unless the operator says otherwise.
        port: None: no gRPC.
        certificate, key: PEM files for TLS.
    """

    host: str = "127.0.0.1"
    port: int | None = Field(default=9000, ge=0, le=65535)
    certificate: Path | None = None
    key: Path | None = None


class LiveSettings(_Config):
    """Of live calls.

    Attributes:
        max_calls: at the same time, of each gateway; 0: there is no live video.
        segment_chunks: ETHD's chunks in a segment, which is a fragment: fewer come sooner.
        look_ahead_frames: frames of speech behind a segment that are waited for; None: as many as V-AID's networks hear.
        segments_ahead: segments of a call that may be under way.
        ethd_in_flight, decoder_in_flight: a call's calls at the same time.
        chunks_per_call: adjacent chunks in one call to ETHD; it changes nothing in the video.
        call_attempts: how often a call is sent whose replica dies.
        buffer_s: of audio that waits to be rendered; beyond it the client is held back.
        clip_s: of audio in all.
        idle_s: without a message from the client.
    """

    max_calls: int = Field(default=2, ge=0)
    segment_chunks: int = Field(default=3, ge=2)
    look_ahead_frames: int | None = Field(default=None, ge=0)
    segments_ahead: int = Field(default=2, ge=1)
    ethd_in_flight: int = Field(default=4, ge=1)
    decoder_in_flight: int = Field(default=1, ge=1)
    chunks_per_call: int = Field(default=1, ge=1)
    call_attempts: int = Field(default=20, ge=1)
    buffer_s: float = Field(default=10.0, gt=0)
    clip_s: float = Field(default=300.0, gt=0)
    idle_s: float = Field(default=30.0, gt=0)


class ServingConfig(_Config):
    """What `emotivetalk.actors.serving.app:build` is given.

    Attributes:
        checkpoint: a folder; None is the starter.
        model: the name by which clients know it.
        data: a folder on this machine for what `jobs` and `artifacts` leave open; None is the environment's
            EMOTIVETALK_DATA, or ~/.local/share/emotivetalk.
        jobs: SQLAlchemy URL of the job store: PostgreSQL, or SQLite (None: a file in `data`).
        artifacts: fsspec URL of the artifact store, or a folder (None: one in `data`).
        retention_s: how long finished videos are kept.
        device: "cpu" or "cuda".
        threads: of each replica that computes. On a CPU, ETHD and the decoder give each call one and run as many calls side
            by side; V-AID, and every replica on a GPU, gives them all to PyTorch.
        chunks_at_once: chunks that an ETHD replica stacks into one call of the network: for a GPU.
    """

    checkpoint: Path | None = None
    model: str = "emotivetalk-starter"
    data: Path | None = None
    jobs: str | None = None
    artifacts: str | None = None
    retention_s: float = Field(default=7 * 86_400.0, gt=0)
    device: str = "cpu"
    threads: int = Field(default=1, ge=1)
    chunks_at_once: int = Field(default=1, ge=1)
    gateway: GatewaySettings = GatewaySettings()
    grpc: GrpcSettings = GrpcSettings()
    director: DirectorSettings = DirectorSettings()
    live: LiveSettings = LiveSettings()

    @property
    def data_folder(self) -> Path:
        """Where this machine's files are, absolute."""
        named = self.data or Path(os.environ.get(DATA_ENV) or "~/.local/share/emotivetalk")
        return named.expanduser().resolve()

    @property
    def jobs_url(self) -> str:
        """Of the job store."""
        return self.jobs or f"sqlite:///{self.data_folder / 'jobs.sqlite'}"

    @property
    def artifacts_url(self) -> str:
        """Of the artifact store."""
        return self.artifacts or str(self.data_folder / "artifacts")

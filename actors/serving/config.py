"""The application's arguments in Ray Serve's YAML (`serve_configs/`): everything except replicas and resources.

Those are in Serve's own schema, under each deployment's name.
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
    """Settings of each director.

    Attributes:
        slots: jobs driven at the same time.
        lease_s: time without renewal after which another director takes a job over.
        renew_s: interval at which leases are renewed and cancellations noticed.
        poll_s: interval of polls for jobs while a slot is free.
        segments_ahead: unpublished segments of a job in progress at the same time.
        ethd_in_flight, vaid_in_flight, decoder_in_flight: concurrent calls of a job. Four calls for each ETHD replica
            hide the transfer of arguments and even out an uneven spread: with 8 replicas, two calls each gave 0.87 of
            the maximal throughput and four gave 0.97.
        calls_in_flight: concurrent calls to ETHD of all the director's jobs.
        chunks_per_call: adjacent chunks in one call to ETHD; None: as many as take about `call_s`, at most
            `max_chunks_per_call`. It does not change the video.
        attempts: runs over a job's graph if results are lost with their node.
        call_attempts: attempts at a call whose replica dies.
        max_attempts: directors that may start a job and die without publishing a segment.
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
    """The gRPC server of each gateway. Gateways on one machine share the port.

    Attributes:
        host: address to bind to; loopback by default.
        port: None disables gRPC.
        certificate, key: PEM files for TLS.
    """

    host: str = "127.0.0.1"
    port: int | None = Field(default=9000, ge=0, le=65535)
    certificate: Path | None = None
    key: Path | None = None


class LiveSettings(_Config):
    """Settings of live calls.

    Attributes:
        max_calls: concurrent live calls of each gateway; 0 disables live video.
        segment_chunks: ETHD's chunks in a segment, which is one fragment; fewer chunks give a lower latency.
        first_fragment_frames: length of the first fragment, from one chunk (12 frames for the starter) to a whole segment,
            which None is; a shorter one comes sooner.
        look_ahead_frames: frames of speech after a segment that must have arrived; None: the receptive field of V-AID (22
            for the starter). With fewer, the lips know less of the sound that follows; 8 is a good compromise.
        segments_ahead: segments of a live call in progress at the same time.
        ethd_in_flight, decoder_in_flight: concurrent calls to the replicas, for each live call.
        chunks_per_call: adjacent chunks in one call to ETHD; it does not change the video.
        call_attempts: attempts at a call whose replica dies.
        buffer_s: seconds of audio that may wait to be rendered; beyond that, the client is slowed down.
        clip_s: seconds of audio in total.
        idle_s: seconds without a message from the client.
        fewer_steps_lag_s: lag (speech that has arrived and is not rendered, seconds) from which segments take fewer
            steps, down to `min_steps` at `drop_frames_lag_s`; None: half of the buffer.
        drop_frames_lag_s: lag from which fragments have fewer pictures: every second frame, later every fourth; None: 0.7
            of the buffer.
        end_lag_s: lag at which the call ends with `live_too_slow`; None: 0.95 of the buffer.
        min_steps: fewest steps of a segment.
    """

    max_calls: int = Field(default=2, ge=0)
    segment_chunks: int = Field(default=3, ge=2)
    first_fragment_frames: int | None = Field(default=None, ge=1)
    look_ahead_frames: int | None = Field(default=None, ge=0)
    segments_ahead: int = Field(default=2, ge=1)
    ethd_in_flight: int = Field(default=4, ge=1)
    decoder_in_flight: int = Field(default=1, ge=1)
    chunks_per_call: int = Field(default=1, ge=1)
    call_attempts: int = Field(default=20, ge=1)
    buffer_s: float = Field(default=10.0, gt=0)
    clip_s: float = Field(default=300.0, gt=0)
    idle_s: float = Field(default=30.0, gt=0)
    fewer_steps_lag_s: float | None = Field(default=None, gt=0)
    drop_frames_lag_s: float | None = Field(default=None, gt=0)
    end_lag_s: float | None = Field(default=None, gt=0)
    min_steps: int = Field(default=1, ge=1)


class WaitingVideoSettings(_Config):
    """`policy_kwargs` of the autoscaling policy `emotivetalk.actors.serving.autoscaling:WaitingVideoPolicy`.

    Attributes:
        jobs, data: the job store, as in the application's arguments.
        waiting_s_per_replica: seconds of waiting video for each replica. A replica that renders r seconds of video per
            second clears its share in `waiting_s_per_replica / r` seconds.
        poll_s: interval of reading the job store.
        stale_s: age of the last reading from which ongoing requests decide instead.
    """

    jobs: str | None = None
    data: Path | None = None
    waiting_s_per_replica: float = Field(default=60.0, gt=0)
    poll_s: float = Field(default=1.0, gt=0)
    stale_s: float = Field(default=30.0, gt=0)

    @property
    def jobs_url(self) -> str:
        """URL of the job store."""
        return ServingConfig(jobs=self.jobs, data=self.data).jobs_url


class ServingConfig(_Config):
    """The arguments of `emotivetalk.actors.serving.app:build`.

    Attributes:
        checkpoint: checkpoint folder; None is the starter.
        model: public name of the checkpoint.
        data: folder on this machine for stores that `jobs` and `artifacts` do not name; None reads EMOTIVETALK_DATA, or is
            ~/.local/share/emotivetalk.
        jobs: SQLAlchemy URL of the job store, PostgreSQL or SQLite; None is a file in `data`.
        artifacts: fsspec URL of the artifact store, or a folder; None is a folder in `data`.
        retention_s: time that finished videos are kept.
        device: "cpu" or "cuda".
        threads: threads of each computing replica. On a CPU, ETHD and the decoder run that many calls at the same time, one
            thread each; V-AID, and every replica on a GPU, gives all threads to PyTorch.
        chunks_at_once: chunks that an ETHD replica stacks into one call of the network, for GPUs.
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
        """Absolute path of the folder for this machine's files."""
        folder = self.data or Path(os.environ.get(DATA_ENV) or "~/.local/share/emotivetalk")
        return folder.expanduser().resolve()

    @property
    def jobs_url(self) -> str:
        """URL of the job store."""
        return self.jobs or f"sqlite:///{self.data_folder / 'jobs.sqlite'}"

    @property
    def artifacts_url(self) -> str:
        """URL of the artifact store."""
        return self.artifacts or str(self.data_folder / "artifacts")

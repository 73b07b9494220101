"""Benchmark of serving: overhead over a single process, and scaling with replicas: `make bench-serving`.

It has three parts: serving a clip compared with the single-process pipeline at the same number of threads; the time to
the first fragment and the memory of each process for clips of growing length; and a simulation of many replicas through
the real director and handles. The simulation replaces ETHD by a wait of 60 ms per chunk and step, so it measures the cost
of calls, references and dataflow even on two cores. Compare only rows of one run.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import logging
import os
import statistics
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from emotivetalk.actors.serving.config import DirectorSettings, ServingConfig
from emotivetalk.actors.serving.replicas.messages import (
    BlockData,
    ChunkData,
    FinishCall,
    FinishedSegment,
    MotionCall,
    Receipt,
    RenderCall,
)
from emotivetalk.timebase import FRAME_RATE_HZ, SAMPLES_PER_FRAME

PORTRAIT, SPEECH, OUTPUT = Path("examples/portrait.png"), Path("examples/hello.wav"), Path("build/bench")
CHUNK_S = 0.06
LATENT = (16, 16, 16)


class WaitingETHD:
    """ETHD that waits for the time of a chunk and step, one call at a time, and returns zeros of the right shape."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def render(self, call: RenderCall, *data: Any) -> AsyncGenerator[ChunkData | Receipt, None]:
        async with self._lock:
            await asyncio.sleep(CHUNK_S * len(call.calls))
        yield ChunkData({one.id: np.zeros((len(one.frames), *LATENT), np.float32) for one in call.calls})
        yield Receipt("simulated", CHUNK_S * len(call.calls), len(call.calls))


class WaitingVAID:
    """V-AID that returns blocks of zeros immediately."""

    def __init__(self, checkpoint: str) -> None:
        from emotivetalk.actors.serving.rendering.plans import CheckpointPlans

        self._plans = CheckpointPlans(Path(checkpoint))

    async def generate_motion(self, call: MotionCall, *before: BlockData) -> AsyncGenerator[BlockData | Receipt, None]:
        _, blocks, _ = self._plans(call.request.num_samples // SAMPLES_PER_FRAME, None)
        frames = blocks.segment(call.block).result.frames
        zeros = np.zeros((len(frames), 32), np.float32)
        yield BlockData(frames.start, zeros, zeros[:, :20], zeros[0, :20])
        yield Receipt("simulated", 0.0)


class WaitingDecoder:
    """Decoder that reports each segment as stored."""

    async def finish(self, call: FinishCall, *data: ChunkData) -> FinishedSegment:
        frames = call.result.frames
        return FinishedSegment(
            call.index, frames.start, len(frames), f"{call.job_id}/{call.index}", 1, "0" * 64, None, {}
        )

    async def assemble(self, job_id: str, fragments: list[str]) -> str:
        return f"{job_id}/video"


def simulate(replicas: tuple[int, ...], length_s: float) -> None:
    """Measure the efficiency by number of replicas, and estimate it for 32 replicas from the cost per call."""
    import ray
    from ray import serve

    from emotivetalk.actors.serving.app import DirectorReplica, job_store
    from emotivetalk.actors.serving.rendering.plans import CheckpointPlans
    from emotivetalk.media.checkpoints import find_checkpoint
    from emotivetalk.request import VideoRequest

    checkpoint = str(find_checkpoint(None).resolve())
    num_frames = int(length_s * FRAME_RATE_HZ)
    plan, _, _ = CheckpointPlans(Path(checkpoint))(num_frames, None)
    work_s = plan.num_calls * CHUNK_S
    print(f"## {length_s / 60:g} minutes with replicas that wait {CHUNK_S * 1000:g} ms per chunk and step\n")
    print("| ETHD replicas | wall | ideal | efficiency | chunks a second |\n|---|---|---|---|---|")
    costs: list[float] = []  # CPU seconds of the director per chunk and step
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": 18765})
        for number in replicas:
            config = ServingConfig(
                data=(OUTPUT / f"simulated-{number}").resolve(),
                director=DirectorSettings(
                    poll_s=0.05, ethd_in_flight=4 * number, segments_ahead=max(3, number), slots=1
                ),
            )
            config.data_folder.mkdir(parents=True, exist_ok=True)

            def deployment(name: str, replica: type, num_replicas: int = 1) -> Any:
                options = {"num_replicas": num_replicas, "ray_actor_options": {"num_cpus": 0.05}}
                return serve.deployment(replica, name=name).options(max_ongoing_requests=16, **options)

            director = deployment("director", DirectorReplica).options(user_config={})
            app = director.bind(
                config,
                checkpoint,
                deployment("VAID", WaitingVAID).bind(checkpoint),
                deployment("ETHD", WaitingETHD, number).bind(),
                deployment("decoder", WaitingDecoder).bind(),
            )
            serve.run(app, name="simulated", route_prefix=None)
            store, request = job_store(config), VideoRequest(num_samples=num_frames * SAMPLES_PER_FRAME)
            for attempt, frames in (("warm", 250), ("timed", num_frames)):
                request_data = request.model_copy(update={"num_samples": frames * SAMPLES_PER_FRAME}).model_dump(
                    mode="json"
                )
                from emotivetalk.actors.serving.jobs.records import NewJob, new_job_id

                new = NewJob(
                    job_id=new_job_id(),
                    owner="",
                    request=request_data,
                    fingerprint=attempt + "0" * 32,
                    num_frames=frames,
                    width=256,
                    height=256,
                )
                job, _ = store.create(new)
                start, spent = time.perf_counter(), _director_cpu_s()
                while not store.get(job.job_id).status.is_terminal:
                    time.sleep(0.02)
                wall, spent = time.perf_counter() - start, _director_cpu_s() - spent
                assert store.get(job.job_id).status == "completed", store.get(job.job_id)
            print(
                f"| {number} | {wall:.1f} s | {work_s / number:.1f} s | {work_s / number / wall:.0%} "
                f"| {plan.num_calls / wall:.0f} |",
                flush=True,
            )
            costs.append(spent / plan.num_calls)
            serve.delete("simulated")
    finally:
        serve.shutdown()
        ray.shutdown()
    max_rate = 1 / costs[-1]
    print(
        f"\nWith {replicas[-1]} replicas, a chunk and step took {costs[-1] * 1000:.1f} ms of the director's CPU time. One director "
        f"handles at most {max_rate:.0f} per second, enough for {max_rate * CHUNK_S:.0f} replicas. Estimated efficiency with 32 "
        f"replicas at {1 / CHUNK_S:.0f} per second each: {min(1.0, max_rate * CHUNK_S / 32):.0%} with one director, "
        f"{min(1.0, 2 * max_rate * CHUNK_S / 32):.0%} with two directors and a video each, without the ends of a video.\n"
    )


def _director_cpu_s() -> float:
    import psutil

    for process in psutil.process_iter(["cmdline", "cpu_times"]):
        if (process.info["cmdline"] or [""])[0].startswith("ray::ServeReplica:simulated:director"):
            return process.info["cpu_times"].user + process.info["cpu_times"].system
    raise RuntimeError("the process of the director was not found")


def compare(length_s: int, threads: int, growing: Sequence[float]) -> None:
    """Compare serving with the pipeline after warm-up at this number of threads; then serve clips of growing length."""
    import httpx
    import soundfile
    import torch

    from emotivetalk.actors.serving.launch import CONFIGS, Service, read_plan
    from emotivetalk.media.audio import load_speech
    from emotivetalk.media.checkpoints import find_checkpoint
    from emotivetalk.media.faces import choose_face, crop_portrait
    from emotivetalk.media.image import load_image
    from emotivetalk.models.emotion import EmotionLabel
    from emotivetalk.models.pipeline import load_pipeline

    OUTPUT.mkdir(parents=True, exist_ok=True)
    samples, rate = soundfile.read(SPEECH, dtype="float32")

    def clip(seconds: float) -> Path:
        path = OUTPUT / f"speech_{seconds:g}.wav"
        soundfile.write(path, np.resize(samples, int(seconds * rate)), rate)
        return path

    torch.set_num_threads(threads)
    pipeline = load_pipeline(find_checkpoint(None))
    assert pipeline.num_workers == threads
    picture = load_image(PORTRAIT)
    crop = crop_portrait(picture, choose_face(picture, None, "portrait"), pipeline.image_size).image
    portrait = torch.from_numpy(crop).permute(2, 0, 1) / 127.5 - 1

    def single_process_s(path: Path) -> float:
        from emotivetalk.media.mux import VideoWriter

        speech = load_speech(path)
        start = time.perf_counter()
        side = pipeline.image_size
        with VideoWriter(OUTPUT / "single_process.mp4", side, side, waveform=speech.waveform) as writer:
            for frames in pipeline(portrait, torch.from_numpy(speech.waveform), EmotionLabel("happy")):
                writer.write(frames.numpy())
        return time.perf_counter() - start

    plan = read_plan(CONFIGS / "local.yaml")
    options = {
        name: {"num_replicas": 1, "ray_actor_options": {"num_cpus": 0.1}}
        for name in ("gateway", "director", "VAID", "ETHD", "decoder")
    }
    config = plan.config.model_copy(
        update={
            "data": (OUTPUT / "served").resolve(),
            "threads": threads,
            "director": plan.config.director.model_copy(update={"poll_s": 0.05}),
            "grpc": plan.config.grpc.model_copy(update={"port": None}),
        }
    )
    plan = dataclasses.replace(plan, port=18766, config=config, options=options)
    with Service(plan) as _, httpx.Client(base_url="http://127.0.0.1:18766", timeout=600) as http:

        def served_s(path: Path) -> tuple[float, float]:
            """Return the seconds from the job's creation to its end and to its first segment."""
            with PORTRAIT.open("rb") as portrait_file, path.open("rb") as speech:
                created = http.post(
                    "/v1/videos", files={"portrait": portrait_file, "audio": speech}, data={"emotion": "happy"}
                ).json()
            from emotivetalk.actors.serving.app import job_store

            store, first = job_store(config), None
            while not (job := store.get(created["id"])).status.is_terminal:
                if first is None and job.next_segment:
                    first = time.time() - job.created_at
                time.sleep(0.02)
            assert job.status == "completed" and job.completed_at is not None, job
            return job.completed_at - job.created_at, first or job.completed_at - job.created_at

        warm = clip(5)
        single_process_s(warm)
        served_s(warm)
        path = clip(length_s)
        pairs = [(single_process_s(path), served_s(path)[0]) for _ in range(3)]
        ratio = statistics.median(served / single for single, served in pairs)
        print(f"## {length_s} s served by one ETHD replica, compared with one process; {threads} thread(s) each\n")
        print("| one process | served | ratio |\n|---|---|---|")
        for single, served in pairs:
            print(f"| {single:.1f} s | {served:.1f} s | {served / single:.2f} |")
        print(f"\nmedian ratio: {ratio:.2f}\n")
        print("## Time to the first fragment, and memory\n")
        print("| video | first fragment | whole | memory of each process |\n|---|---|---|---|")
        for seconds in growing:
            total, first = served_s(clip(seconds))
            print(f"| {seconds:g} s | {first:.1f} s | {total:.1f} s | {_memory()} |", flush=True)
    print()


def _memory() -> str:
    import psutil

    sizes: dict[str, float] = {}
    for process in psutil.process_iter(["cmdline", "memory_info"]):
        title = (process.info["cmdline"] or [""])[0]
        if title.startswith("ray::ServeReplica:emotivetalk:"):
            name = title.split(":")[4].split(".")[0]
            memory = process.info["memory_info"]
            sizes[name] = max(sizes.get(name, 0), (memory.rss - memory.shared) / 1e6)
    return ", ".join(f"{name} {size:.0f} MB" for name, size in sorted(sizes.items()))


def main() -> None:
    """Run the requested parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--replicas", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--length", type=int, default=20)
    parser.add_argument("--growing", type=float, nargs="*", default=[10, 40, 160], help="seconds")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=["simulate", "compare"])
    given = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "compare": lambda: compare(given.length, given.threads, given.growing),
        "simulate": lambda: simulate(tuple(given.replicas), given.minutes * 60),
    }
    for name, part in parts.items():
        if given.only in (None, name):
            part()


if __name__ == "__main__":
    main()

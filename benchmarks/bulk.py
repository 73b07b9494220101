"""Benchmark of bulk rendering: `make bench-bulk`.

`planning`: the cost of rows apart from rendering. `emotivetalk render` goes over a table whose videos a fake client makes at
once, then again when everything is done; a service reads a manifest of as many lines and writes its results, while a client
lists videos. Prints seconds per 10,000 rows, the growth of memory, and the slowest answer.

`throughput`: a table of short videos through a real local service, against the single process that renders the same rows one
after the other. Prints the ratio of times and the share of time for which ETHD's replicas compute.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import psutil

from emotivetalk.client.bulk.outputs import OutputFolder
from emotivetalk.client.bulk.report import write_report
from emotivetalk.client.bulk.rows import RowRules
from emotivetalk.client.bulk.runner import BulkRenderer, RunSettings
from emotivetalk.client.videos import Order, Video

PORTRAIT, SPEECH = Path("examples/portrait.png").resolve(), Path("examples/hello.wav").resolve()
FAKE_VIDEO = b"x" * 1000


class FakeClient:
    """A service that has every video at once."""

    def submit(self, order: Order) -> Video:
        return Video("video_0", "completed", 100, "fake", 0, 0, 0, 0, 256, 256, 50, 50, 0)

    def download(self, video_id: str, path: Path) -> Path:
        path.write_bytes(FAKE_VIDEO)
        return path

    def delete(self, video_id: str) -> None:
        pass


@contextmanager
def measured(name: str, num_rows: int) -> Iterator[None]:
    """Print the seconds per 10,000 rows of the body, and by how much the process grew at most."""
    process, peak, stop = psutil.Process(), [0], threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not stop.wait(0.05):
            peak[0] = max(peak[0], process.memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    start = time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    stop.set()
    watching.join()
    growth = max(0, peak[0] - before) / 1e6
    print(f"{name:46} {seconds / num_rows * 1e4:7.2f} s per 10,000 rows   +{growth:5.0f} MB", flush=True)


def planning(num_rows: int) -> None:
    """Measure everything but rendering."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        table = root / "rows.csv"
        with table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["custom_id", "portrait", "audio", "emotion", "seed"])
            writer.writerows([f"row-{i}", PORTRAIT, SPEECH, "happy:0.6", i] for i in range(num_rows))
        settings, outputs = RunSettings(rows_at_once=8, keep_on_service=False), OutputFolder(root / "out")

        def run() -> None:
            renderer = BulkRenderer(FakeClient(), outputs, settings, lambda result: None)  # type: ignore[arg-type]
            summary = renderer.run(str(table), RowRules(root))
            assert summary.completed + summary.skipped == num_rows and not summary.failed

        with measured("command: first run, rendering faked", num_rows):
            run()
        with measured("command: second run, everything done", num_rows):
            run()
        with measured("command: report", num_rows):
            write_report(root / "out" / "results.jsonl", root / "out" / "report.html", "rows")
        asyncio.run(batches(root, num_rows))


async def batches(root: Path, num_rows: int) -> None:
    """Measure a batch of as many rows in a service whose director never works."""
    from emotivetalk.actors.serving.batches.results import write_results
    from emotivetalk.actors.serving.batches.runner import BatchRun
    from emotivetalk.actors.serving.gateway.http.batches import HttpFront
    from emotivetalk.actors.serving.gateway.service import VideoService
    from emotivetalk.actors.serving.gateway.settings import GatewaySettings
    from emotivetalk.actors.serving.intake.submission import Caller, ServedModel, Upload
    from emotivetalk.actors.serving.jobs.artifacts import ArtifactStore
    from emotivetalk.actors.serving.jobs.store import JobStore

    jobs = JobStore(f"sqlite:///{root}/jobs.db", lease_s=600)
    settings = GatewaySettings(allow_anonymous=True)
    service = VideoService(jobs, ArtifactStore(f"{root}/artifacts"), settings, ServedModel("m", "m-1", 256))
    caller, front = Caller("", settings.limits), HttpFront("m")
    manifest = root / "rows.jsonl"
    body = {"portrait": "https://example.com/me.png", "audio": "https://example.com/hello.wav", "emotion": "happy"}
    with manifest.open("w") as file:
        for index in range(num_rows):
            line = {"custom_id": f"row-{index}", "method": "POST", "url": "/v1/videos", "body": {**body, "seed": index}}
            file.write(json.dumps(line) + "\n")
    stored = await service.batches.create_file(caller, Upload("rows.jsonl", manifest), "batch")
    await service.batches.create(caller, stored.file_id)
    claim = service.batches.store.claim("bench")
    assert claim is not None
    run = BatchRun(claim, service, front)

    async def during(work: Callable[[], Any], name: str) -> None:
        loop, slowest = asyncio.get_running_loop(), 0.0
        with measured(name, num_rows), ThreadPoolExecutor(1) as thread:
            future = loop.run_in_executor(thread, work)
            while not future.done():
                start = time.perf_counter()
                await service.list(caller)
                await service.ready()
                slowest = max(slowest, time.perf_counter() - start)
                await asyncio.sleep(0.02)
            await future
        print(f"{'':46} the slowest answer meanwhile took {slowest:.2f} s", flush=True)

    await during(lambda: run._validate(claim.batch), "service: read and check a manifest")
    service.batches.store.fail_pending_rows(claim, "bench", "nothing was rendered.")
    batch = service.batches.store.renew(claim)
    await during(
        lambda: write_results(batch, service.batches, jobs, front.describe), "service: write the files of results"
    )
    service.close()


def throughput(num_rows: int, checkpoint: Path | None) -> None:
    """Measure a table of clips of 1 to 10 s, served and in one process."""
    import numpy as np
    import soundfile
    import torch

    from emotivetalk import EmotionLabel, load_pipeline, load_portrait, load_waveform
    from emotivetalk.client import Client
    from emotivetalk.embedded_service import EmbeddedService

    torch.set_num_threads(1)
    speech = load_waveform(SPEECH).numpy()
    speech = np.tile(speech, 2 + 160_000 // len(speech))
    lengths = [1 + 9 * index / max(1, num_rows - 1) for index in range(num_rows)]
    pipeline = load_pipeline(checkpoint)
    portrait = load_portrait(PORTRAIT, pipeline.image_size)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with (root / "rows.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["portrait", "audio", "emotion"])
            for index, length in enumerate(lengths):
                soundfile.write(root / f"{index}.wav", speech[: int(16_000 * length)], 16_000)
                writer.writerow([PORTRAIT, f"{index}.wav", "happy"])
        shares: list[float] = []
        stop = threading.Event()

        def watch() -> None:
            """Record the share of its time for which each ETHD replica computes, second by second."""
            last: dict[int, float] = {}
            while not stop.wait(1.0):
                for process in psutil.process_iter(["cmdline"]):
                    if not (process.info["cmdline"] or [""])[0].startswith("ray::ServeReplica:emotivetalk:ETHD"):
                        continue
                    used = process.cpu_times().user
                    if process.pid in last:
                        shares.append(used - last[process.pid])
                    last[process.pid] = used

        with EmbeddedService(root / "service", checkpoint, None, 16).running(print) as url, Client(url) as client:
            settings = RunSettings(rows_at_once=16)
            watching = threading.Thread(target=watch)
            ended: list[float] = []
            renderer = BulkRenderer(client, OutputFolder(root / "out"), settings, lambda _: ended.append(time.time()))
            watching.start()
            start, cpu = time.time(), sum(psutil.cpu_times()[:3])
            summary = renderer.run(str(root / "rows.csv"), RowRules(root))
            served_s, served_cpu = time.time() - start, sum(psutil.cpu_times()[:3]) - cpu
            stop.set()
            watching.join()
        assert summary.completed == num_rows, summary
    start = time.time()
    for length in lengths:
        for _ in pipeline(portrait, torch.from_numpy(speech[: int(16_000 * length)].copy()), EmotionLabel("happy")):
            pass
    single_s = time.time() - start
    workers = min(2, os.cpu_count() or 1)
    print(f"{num_rows} rows, {sum(lengths):.0f} s of video: served {served_s:.0f} s, one process {single_s:.0f} s")
    print(f"served over one process divided by {workers} workers: {served_s / (single_s / workers):.2f}")
    print(f"CPU seconds served over one process: {served_cpu / single_s:.2f}")
    busy = sorted(shares)[len(shares) // 10 :]  # without the start
    print(f"ETHD's replicas computed {statistics.mean(busy or [0]):.0%} of the time, by their CPU seconds")


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("planning", "throughput"))
    parser.add_argument("--rows", type=int, default=None)
    parser.add_argument("--checkpoint", type=Path, default=None)
    options = parser.parse_args()
    if options.part == "planning":
        planning(options.rows or 50_000)
    else:
        throughput(options.rows or 200, options.checkpoint)


if __name__ == "__main__":
    main()

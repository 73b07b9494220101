"""The driver: prepare files with Ray Data, then assemble their parts to a corpus.

Each actor of Ray Data's pool reads files in an isolated process (`corpus/preparing/sandbox.py`) and writes each file's part
itself; only names go through Ray. So finished parts survive any crash, and a second run prepares only what is missing. All
nodes must share the folder of the corpus.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray
import ray.data
import ray.exceptions

from emotivetalk.actors.cluster import joined_cluster
from emotivetalk.corpus.preparing.assembly import CorpusFolder
from emotivetalk.corpus.preparing.labels import Label
from emotivetalk.corpus.preparing.report import write_report, write_times
from emotivetalk.corpus.preparing.results import FileRow, VideoSource
from emotivetalk.corpus.preparing.sandbox import Bounds, Sandbox
from emotivetalk.corpus.preparing.settings import PrepareSettings
from emotivetalk.errors import EmotiveTalkError, OutputError

FILES_PER_BLOCK = 1  # so that a short file does not wait for a long one


@dataclass(frozen=True)
class PreparationLaunch:
    """Resources of a run. They do not change the corpus.

    Attributes:
        num_workers: number of actors, one CPU each; None takes all CPUs of the cluster.
        address: of a running Ray cluster; None starts one here.
    """

    num_workers: int | None = None
    address: str | None = None


@dataclass(frozen=True)
class Preparation:
    """Result of a run.

    Attributes:
        rows: of all files, in the order of their names.
        num_new: number of files that this run prepared.
    """

    rows: tuple[FileRow, ...]
    shards: tuple[Path, ...]
    report: tuple[Path, ...]
    num_new: int


class PrepareFiles:
    """An actor of Ray Data's pool. Prepares the files of a batch one after the other."""

    def __init__(self, parts: Path, settings: PrepareSettings, sync_checkpoint: Path | None, bounds: Bounds) -> None:
        self._sandbox = Sandbox(parts, settings, sync_checkpoint, bounds)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Return the names of the prepared files, each with the error of writing its part or an empty string."""
        names, errors = [], []
        for row in batch["source"]:
            source = VideoSource(row["uri"], row["name"], row["fingerprint"], Label(**row["label"]))
            names.append(source.name)
            try:
                self._sandbox.prepare(source)
                errors.append("")
            except OutputError as error:
                errors.append(str(error))
        return {"name": names, "error": errors}


def prepare_corpus(
    sources: Sequence[VideoSource],
    output: Path,
    settings: PrepareSettings,
    sync_checkpoint: Path | None,
    launch: PreparationLaunch,
    progress: Callable[[int, int], None] = lambda done, total: None,
    bounds: Bounds | None = None,
) -> Preparation:
    """Prepare the files that have no valid part yet, then assemble the corpus and its report.

    Args:
        sources: sorted by name (`corpus.preparing.sources.find_sources`).
        output: the folder of the corpus.
        settings: what to cut and keep. `settings.sync` requires `sync_checkpoint`.
        sync_checkpoint: checkpoint whose networks measure synchrony; None skips the measurement.
        launch: where, and on how many actors.
        progress: called with (files done, files in all).
        bounds: limits of each process that reads videos.

    Raises:
        InputError: the folder holds something else, or no cluster answers at the address.
        OutputError: the disk is full.
        EmotiveTalkError: Ray failed.
    """
    started, start = datetime.now(UTC), time.monotonic()
    corpus = CorpusFolder(output)
    corpus.claim(settings)
    missing = corpus.missing(sources, settings)
    done = len(sources) - len(missing)
    progress(done, len(sources))
    if missing:
        with joined_cluster(launch.address):
            worker = (corpus.parts.absolute(), settings, sync_checkpoint, bounds or Bounds())
            for row in _run(missing, launch, worker):
                if row["error"]:
                    raise OutputError(
                        "output_failed", row["error"].rstrip("."), "Run it again: finished files are kept."
                    )
                done += 1
                progress(done, len(sources))
    rows = tuple(corpus.rows(sources))
    shards = corpus.assemble(sources, rows, settings)
    report = write_report(output, rows, settings)
    times = {"started": started.isoformat(timespec="seconds"), "seconds": round(time.monotonic() - start, 1)}
    write_times(output, {**times, "files": len(missing)})
    return Preparation(rows, shards, report, len(missing))


def _run(
    missing: Sequence[VideoSource], launch: PreparationLaunch, worker: tuple[Any, ...]
) -> Iterator[dict[str, Any]]:
    """Yield each file's name and error when it is done, in any order."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # the command has its own
    context.execution_options.preserve_order = False
    cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
    num_workers = min(launch.num_workers or cpus, len(missing))
    environment = {"env_vars": {"OMP_NUM_THREADS": "1"}}
    rows = [{"source": asdict(source)} for source in missing]
    files = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // FILES_PER_BLOCK))
    done = files.map_batches(
        PrepareFiles,
        fn_constructor_args=worker,
        batch_size=FILES_PER_BLOCK,
        concurrency=num_workers,
        num_cpus=1,
        runtime_env=environment,
    )
    try:
        yield from done.iter_rows()
    except (ray.exceptions.RayError, RuntimeError) as error:
        raise EmotiveTalkError(
            "prepare_failed",
            f"Ray failed: {str(error).strip().splitlines()[-1]}",
            "Run it again: finished files are kept. See Ray's logs in /tmp/ray/session_latest/logs of each node.",
        ) from error

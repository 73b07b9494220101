"""The output and error files of a batch: a line of JSON for each row."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emotivetalk.actors.errors import JobNotFoundError
from emotivetalk.actors.serving.batches.service import BatchService
from emotivetalk.actors.serving.jobs.batch_records import Batch, BatchRow, RowStatus
from emotivetalk.actors.serving.jobs.records import Job
from emotivetalk.actors.serving.jobs.store import JobStore


@dataclass(frozen=True)
class Results:
    """The ids of the files; None where no row completed or failed."""

    output_file_id: str | None
    error_file_id: str | None
    has_expired_rows: bool


def write_results(
    batch: Batch, service: BatchService, jobs: JobStore, describe: Callable[[Job], dict[str, Any]]
) -> Results:
    """Write the results of an ended batch's rows, in the manifest's order, and store them as files of its owner."""
    has_expired_rows = False
    with tempfile.TemporaryDirectory(prefix="emotivetalk-") as folder:
        paths = {RowStatus.COMPLETED: Path(folder) / "output.jsonl", RowStatus.FAILED: Path(folder) / "errors.jsonl"}
        with paths[RowStatus.COMPLETED].open("w") as output, paths[RowStatus.FAILED].open("w") as errors:
            for row in service.store.rows(batch.batch_id):
                has_expired_rows |= row.error_code == "batch_expired"
                file = output if row.status is RowStatus.COMPLETED else errors
                file.write(json.dumps(result_line(row, jobs, describe)) + "\n")
        ids = {
            status: service.put_file(batch.owner, path, f"{batch.batch_id}_{path.name}", "batch_output").file_id
            for status, path in paths.items()
            if path.stat().st_size
        }
    return Results(ids.get(RowStatus.COMPLETED), ids.get(RowStatus.FAILED), has_expired_rows)


def result_line(row: BatchRow, jobs: JobStore, describe: Callable[[Job], dict[str, Any]]) -> dict[str, Any]:
    """Return a row's line: that of OpenAI's batches, and `result` with what the rendering took."""
    line: dict[str, Any] = {
        "id": f"batch_req_{row.batch_id.removeprefix('batch_')}_{row.index}",
        "custom_id": row.custom_id,
        "response": None,
        "error": None,
        "result": {
            "line": row.line,
            "status": row.status.value,
            "attempts": row.attempts,
            "video_s": row.video_s,
            "device_s": None if row.device_s is None else round(row.device_s, 3),
            "sha256": row.sha256,
        },
    }
    if row.status is RowStatus.COMPLETED:
        body: dict[str, Any] = {"id": row.job_id, "object": "video", "status": "completed"}
        with suppress(JobNotFoundError):  # deleted since
            body = describe(jobs.get(row.job_id or ""))
        line["response"] = {"status_code": 200, "request_id": row.job_id, "body": body}
    else:
        line["error"] = {"code": row.error_code, "message": row.error_message}
    return line

"""The output folder of a bulk rendering: a video and a JSON file per row, and what failed and why.

    OUT/<row id>.mp4            the video
    OUT/<row id>.json           its record; it exists only if the video is complete
    OUT/results.jsonl, .parquet a line per row of the manifest, in the order in which the rows ended
    OUT/.emotivetalk/failed/    a record for each row that failed

A record is written after its video, both atomically, so a killed run leaves no half of either.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TextIO

from emotivetalk.client.bulk.rows import BulkRow
from emotivetalk.errors import EmotiveTalkError, InputError
from emotivetalk.files import atomic_write, check_writable, writing

PRIVATE_FOLDER = ".emotivetalk"
Status = Literal["completed", "skipped", "failed"]


@dataclass(frozen=True)
class RowResult:
    """The end of a row, as `results.jsonl` and `results.parquet` have it.

    Attributes:
        row: position in the manifest, from 1.
        id: the row's id; None if the row has none because it is invalid.
        status: "skipped" if an earlier run made the video.
        video: file name in the output folder.
        attempts: number of times that the row was sent to the service, over all runs.
        video_s: length of the video, seconds.
        elapsed_s: time from sending the row to its end, seconds.
        device_s: seconds that networks and decoder computed.
    """

    row: int
    id: str | None
    status: Status
    error_code: str | None = None
    error_message: str | None = None
    video: str | None = None
    sha256: str | None = None
    attempts: int = 0
    video_s: float | None = None
    elapsed_s: float | None = None
    device_s: float | None = None


class OutputFolder:
    """The outputs of a bulk rendering. Safe for several threads, each with rows of its own.

    Args:
        folder: created if missing.

    Raises:
        InputError: the folder cannot be written.
        OutputError: the disk is full.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._failed = folder / PRIVATE_FOLDER / "failed"
        try:
            self._failed.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                "output_unwritable", f"{folder} cannot be created ({error.strerror})", "Choose another output folder."
            ) from error
        check_writable(self._failed / "probe")

    def video(self, row: BulkRow) -> Path:
        """Return the path of a row's video."""
        return self.folder / f"{row.row_id}.mp4"

    def finished(self, row: BulkRow) -> RowResult | None:
        """Return the result of a row whose video an earlier run made; None if it has to be made.

        The video is compared with its record. A row whose contents changed since has to be made again.
        """
        record = _read(self._record(row))
        if record is None or record.get("fingerprint") != row.fingerprint:
            return None
        try:
            with self.video(row).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return None
        if digest != record.get("sha256"):
            return None
        result = record["result"]
        return RowResult(**{**result, "row": row.number, "status": "skipped"})

    def failure(self, row: BulkRow) -> RowResult | None:
        """Return the result of a row that failed in an earlier run with the same contents; None if there is none."""
        record = _read(self._failed / f"{row.row_id}.json")
        if record is None or record.get("fingerprint") != row.fingerprint:
            return None
        return RowResult(**{**record["result"], "row": row.number})

    def complete(self, row: BulkRow, result: RowResult, write: Callable[[Path], None]) -> RowResult:
        """Write a row's video by `write(path)`, then its record, and return the result with the video's hash.

        Raises:
            OutputError: the disk is full.
        """
        video = self.video(row)
        write(video)
        with video.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        ended = RowResult(**{**asdict(result), "video": video.name, "sha256": digest})
        record = {
            "id": row.row_id,
            "fingerprint": row.fingerprint,
            "sha256": digest,
            "portrait": str(row.portrait),
            "audio": str(row.audio),
            "emotion": None if row.emotion is None else row.emotion.model_dump(mode="json"),
            "settings": row.settings.model_dump(mode="json"),
            "result": asdict(ended),
        }
        _write(self._record(row), record)
        (self._failed / f"{row.row_id}.json").unlink(missing_ok=True)
        return ended

    def fail(self, row: BulkRow, result: RowResult) -> None:
        """Record that a row failed."""
        _write(self._failed / f"{row.row_id}.json", {"fingerprint": row.fingerprint, "result": asdict(result)})

    @contextmanager
    def results(self) -> Iterator[Callable[[RowResult], None]]:
        """Open `results.jsonl`; yields the function that appends a row's result. Afterwards `results.parquet` is written."""
        path = self.folder / "results.jsonl"
        with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            try:
                yield lambda result: _append(file, path, result)
            finally:
                with writing(path):
                    file.flush()
        _write_parquet(path, self.folder / "results.parquet")

    def _record(self, row: BulkRow) -> Path:
        return self.folder / f"{row.row_id}.json"


def _append(file: TextIO, path: Path, result: RowResult) -> None:
    with writing(path):
        file.write(json.dumps(asdict(result), ensure_ascii=False) + "\n")


def _read(path: Path) -> dict | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("result"), dict) else None


def _write(path: Path, record: dict) -> None:
    with atomic_write(path) as temporary, writing(path):
        temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_parquet(source: Path, target: Path) -> None:
    """Convert `results.jsonl`; without pyarrow there is only the former."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        return
    schema = pa.schema(
        [
            ("row", pa.int64()),
            *((name, pa.string()) for name in ("id", "status", "error_code", "error_message", "video", "sha256")),
            ("attempts", pa.int32()),
            ("video_s", pa.float64()),
            ("elapsed_s", pa.float64()),
            ("device_s", pa.float64()),
        ]
    )
    with atomic_write(target) as temporary, pq.ParquetWriter(temporary, schema) as writer, source.open() as lines:
        rows = []
        for line in lines:
            rows.append(json.loads(line))
            if len(rows) == 4096:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, schema))


def error_result(row: int, row_id: str | None, error: EmotiveTalkError, attempts: int = 0) -> RowResult:
    """Return the result of a row that ended with an error."""
    return RowResult(row, row_id, "failed", error.code, str(error), attempts=attempts)

"""Manifests: JSONL, CSV or Parquet files with one row per video, read row by row."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from emotivetalk.errors import InputError
from emotivetalk.request.batch_line import parse_batch_line

SUFFIXES = (".jsonl", ".csv", ".parquet")
_REMEDY = "docs/bulk.md describes the format."
_ROWS_AT_ONCE = 1024
_LONGEST_LINE = 1 << 20  # characters


@dataclass(frozen=True)
class ManifestRow:
    """A row as the manifest has it.

    Attributes:
        number: position, counted from 1: the line of a JSONL or CSV file, the row of a Parquet file.
        values: the row's fields by name, without the empty ones; None if the row cannot be read.
        error: the reason why it cannot be read.
    """

    number: int
    values: Mapping[str, Any] | None
    error: InputError | None = None


def read_manifest(location: str) -> Iterator[ManifestRow]:
    """Yield the rows of a manifest in order.

    A JSONL line is either an object with the row's fields, or a line of an OpenAI batch, whose `body` has them.

    Args:
        location: a path, or a URL of a file system that `fsspec` knows, ending in .jsonl, .csv or .parquet.

    Raises:
        InputError: the manifest itself cannot be used. A row that cannot be read is yielded with its error.
    """
    suffix = Path(location).suffix.lower()
    readers: dict[str, Callable[[str], Iterator[ManifestRow]]] = {
        ".jsonl": _read_jsonl,
        ".csv": _read_csv,
        ".parquet": _read_parquet,
    }
    if suffix not in readers:
        raise InputError(
            "manifest_format", f"{location} is none of {', '.join(SUFFIXES)}", "Name the manifest by its format."
        )
    return readers[suffix](location)


def folder_of(location: str) -> Path | None:
    """Return the folder that relative paths of a manifest start from; None if the manifest is remote."""
    return None if "://" in location else Path(location).absolute().parent


def _read_jsonl(location: str) -> Iterator[ManifestRow]:
    with _opened(location) as file:
        for number, line in _lines(file, location):
            if line.strip():
                yield _json_row(number, line)


def _json_row(number: int, line: str) -> ManifestRow:
    try:
        return ManifestRow(number, parse_batch_line(line))
    except InputError as error:
        return ManifestRow(number, None, error)


def _read_csv(location: str) -> Iterator[ManifestRow]:
    with _opened(location) as file:
        lines = (line for _, line in _lines(file, location))
        reader = csv.reader(lines, strict=True)
        try:
            header = next(reader, None)
        except csv.Error as error:
            raise _unusable(location, f"line 1: {error}") from error
        if not header or not {"portrait", "audio"} <= set(header):
            raise _unusable(location, "line 1: the header lacks portrait or audio")
        if len(set(header)) < len(header):
            raise _unusable(location, "line 1: a column appears twice")
        while True:
            try:
                fields = next(reader, None)
            except csv.Error as error:
                raise _unusable(location, f"line {reader.line_num}: {error}") from error
            if fields is None:
                return
            if not fields:
                continue
            if len(fields) != len(header):
                message = f"it has {len(fields)} fields, the header {len(header)}"
                yield ManifestRow(reader.line_num, None, InputError("row_fields", message, _REMEDY))
            else:
                values = {name: value for name, value in zip(header, fields, strict=True) if value != ""}
                yield ManifestRow(reader.line_num, values)


def _read_parquet(location: str) -> Iterator[ManifestRow]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise InputError("manifest_needs_pyarrow", "Parquet manifests need pyarrow", "pip install pyarrow") from error
    with _opened(location) as file:
        number = 0
        try:
            table = pq.ParquetFile(file)
            if not {"portrait", "audio"} <= set(table.schema_arrow.names):
                raise _unusable(location, "it lacks the column portrait or audio")
            for batch in table.iter_batches(_ROWS_AT_ONCE):
                for values in batch.to_pylist():
                    number += 1
                    yield ManifestRow(number, {k: v for k, v in values.items() if v is not None and v != ""})
        except (pa.ArrowException, OSError) as error:
            place = f"after row {number}" if number else "it is not Parquet, or cut off"
            raise _unusable(location, f"{place}: {str(error).splitlines()[0]}") from error


def _lines(file: IO[bytes], location: str) -> Iterator[tuple[int, str]]:
    """Yield lines with their numbers, decoded; a byte order mark is left out."""
    for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE + 1), b""), 1):
        if len(line) > _LONGEST_LINE:
            raise _unusable(location, f"line {number} is longer than {_LONGEST_LINE} bytes")
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise _unusable(location, f"line {number} is not UTF-8") from error


@contextmanager
def _opened(location: str) -> Iterator[IO[bytes]]:
    try:
        if "://" in location:
            import fsspec

            with fsspec.open(location, "rb") as remote:
                yield cast(IO[bytes], remote)
        else:
            with open(location, "rb") as file:
                yield file
    except FileNotFoundError as error:
        raise InputError("manifest_missing", f"{location} does not exist", "Name an existing manifest.") from error
    except ModuleNotFoundError as error:
        raise InputError(
            "manifest_needs_package", f"{location} needs the package {error.name}", f"pip install {error.name}"
        ) from error
    except (IsADirectoryError, PermissionError, ValueError) as error:
        raise InputError("manifest_unreadable", f"{location} cannot be read: {error}", "Check it.") from error


def _unusable(location: str, message: str) -> InputError:
    return InputError("manifest_invalid", f"{location}: {message}", _REMEDY)

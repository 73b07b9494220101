"""Manifests of all formats: the same rows, and one sentence for one that cannot be used."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from emotivetalk.client.bulk.manifest import ManifestRow, read_manifest
from emotivetalk.errors import InputError

ROWS = [
    {"custom_id": "a", "portrait": "me.png", "audio": "one.wav", "emotion": "happy:0.5", "seed": "7"},
    {"custom_id": "b", "portrait": "me.png", "audio": "two.wav"},
]


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def rows_of(location: str) -> list[ManifestRow]:
    return list(read_manifest(location))


def manifest_of(folder: Path, suffix: str) -> str:
    path = folder / f"rows.{suffix}"
    if suffix == "jsonl":
        return write(path, "".join(json.dumps(row) + "\n" for row in ROWS))
    if suffix == "csv":
        return write(
            path, "﻿custom_id,portrait,audio,emotion,seed\r\na,me.png,one.wav,happy:0.5,7\r\nb,me.png,two.wav,,\r\n"
        )
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    return str(path)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_all_formats_give_the_same_rows(suffix: str, tmp_path: Path) -> None:
    found = rows_of(manifest_of(tmp_path, suffix))
    assert [row.values for row in found] == ROWS
    assert [row.number for row in found] == ([2, 3] if suffix == "csv" else [1, 2])


def test_a_manifest_is_read_from_any_file_system() -> None:
    MemoryFileSystem().pipe_file("rows.jsonl", json.dumps(ROWS[0]).encode())
    assert [row.values for row in rows_of("memory://rows.jsonl")] == ROWS[:1]


def test_batch_lines_of_openai_are_rows(tmp_path: Path) -> None:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/videos", "body": {"portrait": "p", "audio": "s"}}
    other = {**line, "url": "/v1/chat/completions"}
    one, two = rows_of(write(tmp_path / "rows.jsonl", f"{json.dumps(line)}\n\n{json.dumps(other)}\n"))
    assert one.values == {"custom_id": "a", "portrait": "p", "audio": "s"} and one.error is None
    assert two.number == 3 and two.error is not None and two.error.code == "row_not_video"


@pytest.mark.parametrize("line", ["{", "[]", "7", "[" * 100_000])
def test_a_line_that_is_no_object_is_a_broken_row(line: str, tmp_path: Path) -> None:
    broken, good = rows_of(write(tmp_path / "rows.jsonl", f"{line}\n{json.dumps(ROWS[1])}\n"))
    assert broken.error is not None and broken.error.code == "row_not_json"
    assert good.values == ROWS[1]


def test_a_csv_row_of_another_length_is_a_broken_row(tmp_path: Path) -> None:
    broken, good = rows_of(write(tmp_path / "rows.csv", "portrait,audio\na,b,c\nd,e\n"))
    assert broken.error is not None and broken.error.code == "row_fields" and broken.number == 2
    assert good.values == {"portrait": "d", "audio": "e"}


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("rows.jsonl", b'{"portrait": "a"}\n\xff\xfe\n', "line 2 is not UTF-8"),
        ("rows.csv", b"portrait,sound\na,b\n", "line 1: the header lacks portrait or audio"),
        ("rows.csv", b"portrait,audio,audio\na,b,c\n", "a column appears twice"),
        ("rows.csv", b'portrait,audio\na,"b\n', "line 2"),
        ("rows.csv", b"", "line 1"),
        ("rows.parquet", b"PAR1 and nothing more", "it is not Parquet, or cut off"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_one_sentence(name: str, content: bytes, part: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        rows_of(write(tmp_path / name, content))
    assert caught.value.code == "manifest_invalid" and part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_parquet_is_refused(tmp_path: Path) -> None:
    path = Path(manifest_of(tmp_path, "parquet"))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="not Parquet, or cut off"):
        rows_of(str(path))


@pytest.mark.parametrize(("name", "code"), [("rows.xlsx", "manifest_format"), ("nowhere.csv", "manifest_missing")])
def test_other_files_are_refused(name: str, code: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        rows_of(str(tmp_path / name))
    assert caught.value.code == code

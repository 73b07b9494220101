"""Read a manifest as rows of a batch: where each line is, its name, and what is wrong with it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

from emotivetalk.actors.serving.jobs.batch_records import BatchRow, RowStatus
from emotivetalk.errors import EmotiveTalkError, InputError
from emotivetalk.request import choose_emotion, only_one
from emotivetalk.request.batch_line import parse_batch_line

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_FLAT = ("emotion_text", "emotion_track", "emotion_from_speech")
"""Fields of flat rows that the body of `POST /v1/videos` has under other names."""


class ManifestError(InputError):
    """The manifest itself cannot be used.

    Attributes:
        line: the line that shows it, counted from 1; None if it is the whole file.
    """

    def __init__(self, code: str, message: str, line: int | None = None) -> None:
        super().__init__(code, message, "docs/bulk.md describes the format.")
        self.line = line


def read_rows(
    file: BinaryIO,
    batch_id: str,
    check_body: Callable[[dict[str, Any]], object],
    *,
    max_rows: int,
    max_line_bytes: int,
) -> Iterator[BatchRow]:
    """Yield the rows of a manifest; a row that cannot become a video has failed.

    Args:
        check_body: raises EmotiveTalkError for a body that `POST /v1/videos` would refuse.

    Raises:
        ManifestError: it is not UTF-8, or has no rows or too many.
    """
    index = start = 0
    lines_of: dict[str, int] = {}
    for number, data in enumerate(iter(lambda: file.readline(max_line_bytes + 1), b""), 1):
        if len(data) > max_line_bytes:
            raise ManifestError("manifest_line_too_long", f"line {number} has more than {max_line_bytes} bytes", number)
        stop = start + len(data)
        try:
            text = data.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ManifestError("manifest_invalid", f"line {number} is not UTF-8", number) from error
        if text.strip():
            if index == max_rows:
                raise ManifestError("manifest_too_long", f"it has more than {max_rows} rows", number)
            row = BatchRow(batch_id=batch_id, index=index, line=number, start=start, stop=stop)
            yield _checked(row, text, check_body, lines_of)
            index += 1
        start = stop
    if index == 0:
        raise ManifestError("manifest_empty", "it has no rows")


def _checked(
    row: BatchRow, text: str, check_body: Callable[[dict[str, Any]], object], lines_of: dict[str, int]
) -> BatchRow:
    """Return the row with its name, failed if it cannot become a video. `lines_of` has the lines of earlier names."""
    values = vars(row)
    try:
        custom_id, body = split_line(text)
        values = {**values, "custom_id": custom_id}
        if lines_of.setdefault(custom_id, row.line) != row.line:
            message = f"line {lines_of[custom_id]} has the same custom_id {custom_id}"
            raise InputError("row_duplicate", message, "Remove one, or name it.")
        check_body(body)
    except EmotiveTalkError as error:
        values = {**values, "status": RowStatus.FAILED, "error_code": error.code, "error_message": str(error)}
    return BatchRow(**values)


def split_line(text: str) -> tuple[str, dict[str, Any]]:
    """Return a line's name, by default a hash of its contents, and the body of `POST /v1/videos`.

    Raises:
        InputError: the line is no JSON, calls another endpoint, or has an invalid name or emotion.
    """
    values = parse_batch_line(text.removeprefix("\ufeff"))
    custom_id = values.pop("custom_id", None)
    if custom_id is None:
        custom_id = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]
    elif not (isinstance(custom_id, str) and _NAME.fullmatch(custom_id)):
        raise InputError(
            "row_id_invalid",
            f"custom_id {str(custom_id)[:140]!r} is not a name of 1 to 128 letters, digits, dots, dashes and underscores",
            "It names the output, so choose one that is valid everywhere.",
        )
    return custom_id, _body(values)


def _body(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields with flat emotions as the HTTP interface has them."""
    flat = {name: values[name] for name in _FLAT if values.get(name) not in (None, False)}
    body = {name: value for name, value in values.items() if name not in _FLAT}
    if not flat:
        return body
    others = [name for name in ("emotion", "emotion_image", "emotion_video", "prompt") if name in body]
    only_one([*flat, *others])
    if isinstance(flat.get("emotion_track"), str):
        raise InputError("emotion_invalid", "emotion_track is a path", "Write the keys of the track into the row.")
    emotion = choose_emotion(flat)
    return body if emotion is None else {**body, "emotion": emotion.model_dump(mode="json")}

"""Ranges of a file over HTTP: Range, If-Range and If-None-Match (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from emotivetalk.errors import InputError

_ONE_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Part:
    """The bytes `start` to `stop` (exclusive) of a file, with the response's status and headers."""

    start: int
    stop: int
    status: int
    headers: dict[str, str]


class RangeError(InputError):
    """The requested range lies outside the file."""

    def __init__(self, size: int) -> None:
        super().__init__(
            "range_unsatisfiable",
            f"the range lies outside the {size} bytes of the video",
            "Request a range inside the file.",
        )
        self.headers = {"content-range": f"bytes */{size}"}


def part_of(headers: Mapping[str, str], size: int, etag: str) -> Part:
    """Return the requested part of a file. Multiple ranges, and units other than bytes, give the whole file.

    Raises:
        RangeError: the range begins after the end of the file.
    """
    common = {"accept-ranges": "bytes", "etag": etag}
    known = {tag.strip().removeprefix("W/") for tag in headers.get("if-none-match", "").split(",")}
    if etag in known or "*" in known:
        return Part(0, 0, 304, common)
    whole = Part(0, size, 200, {**common, "content-length": str(size)})
    match = _ONE_RANGE.fullmatch(headers.get("range", ""))
    if match is None or headers.get("if-range", etag).strip() != etag or not (match[1] or match[2]):
        return whole
    if match[1]:
        start, stop = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
        if match[2] and int(match[2]) < int(match[1]):
            return whole  # an invalid range is ignored
    else:
        start, stop = max(0, size - int(match[2])), size
    if start >= size:
        raise RangeError(size)
    length = {"content-length": str(stop - start), "content-range": f"bytes {start}-{stop - 1}/{size}"}
    return Part(start, stop, 206, common | length)

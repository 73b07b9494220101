"""Raw videos in files, folders and URLs, in an order that does not depend on their location."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from emotivetalk.corpus.preparing.labels import Label, label_of
from emotivetalk.corpus.preparing.results import VideoSource
from emotivetalk.errors import InputError
from emotivetalk.files import quoted

SUFFIXES = (
    ".gif",
    ".mp4",
    ".m4v",
    ".mov",
    ".avi",
    ".mkv",
    ".webm",
    ".flv",
    ".mpg",
    ".mpeg",
    ".ts",
    ".mts",
    ".wmv",
    ".3gp",
    ".ogv",
)
MAX_BYTES = 16_000_000_000
_READ_BYTES = 1 << 20
_FINGERPRINT_KEYS = ("ETag", "etag", "LastModified", "Last-Modified", "last_modified", "mtime", "checksum")


def find_sources(raws: Sequence[str], labels: Mapping[str, Label]) -> tuple[VideoSource, ...]:
    """List all raw videos, sorted by name.

    Args:
        raws: files with any suffix, folders (searched recursively by suffix), and URLs of fsspec's protocols. The HTTP URL
            of a folder ends with a slash.
        labels: labels by path or URL (`read_labels`); other videos get the label in their name.

    Raises:
        InputError: a path does not exist, no video was found, or a protocol is unknown.
    """
    found: dict[str, VideoSource] = {}
    uris: set[str] = set()
    for raw in raws:
        for uri, name, fingerprint in _videos_at_url(raw) if "://" in raw else _videos_at_path(Path(raw)):
            if uri in uris:
                continue  # given twice, for example by its folder and by itself
            uris.add(uri)
            number, unique = 1, name
            while unique in found:
                number += 1
                unique = f"{name}~{number}"
            label = labels.get(uri) or label_of(urlsplit(uri).path if "://" in uri else _encodable(uri))
            found[unique] = VideoSource(uri, unique, fingerprint, label)
    if not found:
        raise InputError(
            "raw_empty",
            f"there is no video in {', '.join(quoted(Path(raw)) for raw in raws)}",
            f"Name files, or folders with files that end with {' '.join(SUFFIXES)}.",
        )
    return tuple(found[name] for name in sorted(found))


def _videos_at_path(path: Path) -> Iterator[tuple[str, str, str]]:
    path = path.absolute()
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            # Links to nothing are listed too: their rows in the report say what is wrong.
            if file.suffix.lower() in SUFFIXES and (file.is_file() or not file.exists()):
                yield str(file), _encodable(f"{path.name}/{file.relative_to(path).as_posix()}"), _fingerprint(file)
    elif path.exists():
        yield str(path), _encodable(path.name), _fingerprint(path)
    else:
        raise InputError("raw_missing", f"raw video {quoted(path)} does not exist", "Check the path.")


def _fingerprint(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def _encodable(name: str) -> str:
    """Escape the bytes of a file name that are not UTF-8, since reports and Parquet cannot hold them."""
    return os.fsencode(name).decode("utf-8", errors="backslashreplace")


def _videos_at_url(url: str) -> Iterator[tuple[str, str, str]]:
    files, root = _open_url(url)
    try:
        # Over HTTP, isdir would download the file.
        is_folder = url.endswith("/") or (not url.startswith("http") and files.isdir(root))
        found: Mapping[str, Mapping[str, Any]] = (
            files.find(root, detail=True) if is_folder else {root: files.info(root)}
        )
    except Exception:  # noqa: BLE001 each protocol has its own errors; fetching will report them in the file's row
        is_folder, found = False, {root: {}}
    for path, details in sorted(found.items()):
        if is_folder and PurePosixPath(urlsplit(path).path).suffix.lower() not in SUFFIXES:
            continue
        full = files.unstrip_protocol(path) if is_folder else url
        base = PurePosixPath(urlsplit(root).path or root)
        name = f"{base.name}/{PurePosixPath(path).relative_to(root)}" if is_folder else base.name
        stamps = [f"{details.get('size')}", *(f"{details[key]}" for key in _FINGERPRINT_KEYS if key in details)]
        yield full, name, " ".join(stamps) if details else ""


def _open_url(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs

        return url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise InputError(
            "raw_protocol",
            f"URL {url!r} cannot be read: {str(error).splitlines()[0]}",
            "Use http, https, file or s3 (which needs the package s3fs), or download it first.",
        ) from error


@contextmanager
def local_copy(source: VideoSource, scratch: Path | None = None) -> Iterator[Path]:
    """Provide a source as a local file; a URL is downloaded into `scratch` and deleted after the block.

    Raises:
        InputError: the URL cannot be fetched (url_unreachable), or the file is too large (video_too_many_bytes).
        OSError: the disk of the scratch folder is full.
    """
    if "://" not in source.uri:
        yield Path(source.uri)
        return
    suffix = PurePosixPath(urlsplit(source.uri).path).suffix[:8]
    with TemporaryDirectory(prefix="emotivetalk-raw-", dir=scratch) as folder:
        path = Path(folder) / f"{hashlib.sha256(source.uri.encode()).hexdigest()[:16]}{suffix}"
        try:
            files, root = _open_url(source.uri)
            with files.open(root, "rb") as remote, path.open("wb") as file:
                bounded = _LimitedFile(remote, source.name)
                while data := bounded.read(_READ_BYTES):
                    file.write(data)
        except InputError:
            raise
        except Exception as error:  # each protocol has its own errors
            raise InputError(
                "url_unreachable",
                f"{source.name!r} could not be fetched: {type(error).__name__} {' '.join(str(error).split())[:200]}",
                "Check the URL, and run the command again.",
            ) from error
        yield path


class _LimitedFile:
    """A remote file that raises an error after MAX_BYTES."""

    def __init__(self, file: Any, name: str) -> None:
        self._file, self._name, self._left = file, name, MAX_BYTES

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise InputError(
                "video_too_many_bytes", f"{self._name!r} has more than {MAX_BYTES / 1e9:g} GB", "Split or compress it."
            )
        return data

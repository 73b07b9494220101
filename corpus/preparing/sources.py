"""Which raw videos there are: files, folders and URLs, in an order that does not depend on where they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from emotivetalk.corpus.preparing.labels import Label, label_of
from emotivetalk.corpus.preparing.results import Source
from emotivetalk.errors import InputError
from emotivetalk.files import quoted

SUFFIXES = (
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
_READ_AT_ONCE = 1 << 20
_STAMPS = ("ETag", "etag", "LastModified", "Last-Modified", "last_modified", "mtime", "checksum")


def find_sources(raws: Sequence[str], labels: Mapping[str, Label]) -> tuple[Source, ...]:
    """All raw videos, by name.

    Args:
        raws: files (of any ending), folders (all below, by their ending), and URLs that fsspec knows; over HTTP, that
            of a folder ends with a slash.
        labels: by path or URL (`read_labels`); else the name tells.

    Raises:
        InputError: a path does not exist, nothing was found at all, no such protocol.
    """
    found: dict[str, Source] = {}
    uris: set[str] = set()
    for raw in raws:
        for uri, name, fingerprint in _of_url(raw) if "://" in raw else _of_path(Path(raw)):
            if uri in uris:
                continue  # named twice, say by its folder and by itself
            uris.add(uri)
            number, unique = 1, name
            while unique in found:
                number += 1
                unique = f"{name}~{number}"
            label = labels.get(uri) or label_of(urlsplit(uri).path if "://" in uri else uri)
            found[unique] = Source(uri, unique, fingerprint, label)
    if not found:
        raise InputError(
            "raw_empty",
            f"there is no video in {', '.join(quoted(Path(raw)) for raw in raws)}",
            f"Name files, or folders with files that end with {' '.join(SUFFIXES)}.",
        )
    return tuple(found[name] for name in sorted(found))


def _of_path(path: Path) -> Iterator[tuple[str, str, str]]:
    path = path.absolute()
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES and file.is_file()]
        for file in files:
            yield str(file), f"{path.name}/{file.relative_to(path).as_posix()}", _fingerprint(file)
    elif path.exists():
        yield str(path), path.name, _fingerprint(path)
    else:
        raise InputError("raw_missing", f"raw video {quoted(path)} does not exist", "Check the path.")


def _fingerprint(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def _of_url(url: str) -> Iterator[tuple[str, str, str]]:
    files, root = _open_url(url)
    try:
        # Over HTTP, to ask whether something is a folder is to download it.
        is_folder = url.endswith("/") or (not url.startswith("http") and files.isdir(root))
        found: Mapping[str, Mapping[str, Any]] = (
            files.find(root, detail=True) if is_folder else {root: files.info(root)}
        )
    except Exception:  # noqa: BLE001 each protocol has its own errors; the file's row will say that it cannot be fetched
        is_folder, found = False, {root: {}}
    for path, facts in sorted(found.items()):
        if is_folder and PurePosixPath(urlsplit(path).path).suffix.lower() not in SUFFIXES:
            continue
        full = files.unstrip_protocol(path) if is_folder else url
        base = PurePosixPath(urlsplit(root).path or root)
        name = f"{base.name}/{PurePosixPath(path).relative_to(root)}" if is_folder else base.name
        stamps = [f"{facts.get('size')}", *(f"{facts[key]}" for key in _STAMPS if key in facts)]
        yield full, name, " ".join(stamps) if facts else ""


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
def local_copy(source: Source, scratch: Path | None = None) -> Iterator[Path]:
    """The file of a source on this machine; one from a URL is fetched into `scratch` and vanishes afterwards.

    Raises:
        InputError: url_unreachable, video_too_many_bytes; OSError: the scratch folder's disk is full.
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
                bounded = _Bounded(remote, source.name)
                while data := bounded.read(_READ_AT_ONCE):
                    file.write(data)
        except InputError:
            raise
        except Exception as error:  # each protocol has its own errors
            raise InputError(
                "url_unreachable",
                f"{source.name!r} could not be fetched: {type(error).__name__} {' '.join(str(error).split())[:200]}",
                "Check the URL, and run it again.",
            ) from error
        yield path


class _Bounded:
    """A remote file that ends with an error once it gives more than MAX_BYTES."""

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

"""The files of jobs, in a folder by default or in an object store (fsspec).

Writes are atomic: a name has the whole content that was written last or none, whatever process dies.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

import fsspec

from emotivetalk.actors.errors import ArtifactNotFoundError, ArtifactStoreError
from emotivetalk.actors.serving.threads import in_thread
from emotivetalk.errors import InputError

PIECE_BYTES = 1 << 18

# No "..", absolute paths or backslashes; no hidden names, which are used for unfinished files.
_PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199})*")
_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError)
_GIB = 1 << 30


class ArtifactStore:
    """Files under relative paths such as "jobs/video_0198/video.mp4". Safe for any number of threads and processes.

    Every method raises `ValueError` for a path that is not relative and plain (letters, digits, ".", "_", "-" and "/"),
    `ArtifactNotFoundError` for a missing file, and `ArtifactStoreError` (codes "artifacts_no_space",
    "artifacts_unavailable") if the store cannot be used.

    Args:
        url: "file:///folder", a plain path, "memory://name" (one process only), "s3://bucket/prefix" or another
            URL of fsspec.

    Raises:
        InputError: code "artifacts_url": the URL cannot be used, or its package is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            # No cache of listings, because other processes write files.
            self._files, root = fsspec.url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise InputError(
                "artifacts_url",
                f"the artifact store {url} cannot be used: {error}",
                "Give a folder, or an object store's URL whose fsspec package is installed (s3fs for s3://).",
            ) from error
        self._root = root.rstrip("/")
        self.is_local = "file" in _protocols(self._files)

    def write(self, path: str, data: bytes) -> None:
        """Write the file; on a local disk the data has reached the disk when this returns."""
        with self._using(path, to_write=True) as name:
            if self.is_local:
                with _replacing(Path(name)) as file:
                    file.write(data)
            else:
                self._make_parents(name)
                self._files.pipe_file(name, data)

    def upload(self, local_path: Path, path: str) -> None:
        """Copy a local file into the store.

        Raises:
            FileNotFoundError: the local file does not exist.
        """
        with local_path.open("rb") as source, self._using(path, to_write=True) as name:
            if self.is_local:
                with _replacing(Path(name)) as file:
                    shutil.copyfileobj(source, file, 1 << 20)
            else:
                self._make_parents(name)
                self._files.put_file(str(local_path), name)

    def read(self, path: str) -> bytes:
        """Return the whole content."""
        with self._using(path) as name:
            return self._files.cat_file(name)

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        """Return the bytes from `start` up to `stop` (exclusive), fewer if the file ends earlier."""
        if not 0 <= start <= stop:
            raise ValueError(f"invalid range: {start} to {stop}")
        with self._using(path) as name:
            if start == stop:  # some stores refuse an empty range
                self._files.size(name)
                return b""
            return self._files.cat_file(name, start=start, end=stop)

    def open(self, path: str) -> BinaryIO:
        """Return a seekable reader, which the caller closes."""
        with self._using(path) as name:
            return cast(BinaryIO, self._files.open(name, "rb"))

    def size(self, path: str) -> int:
        """Return the size in bytes."""
        with self._using(path) as name:
            return int(self._files.size(name))

    def exists(self, path: str) -> bool:
        """Return True if the file exists."""
        with self._using(path) as name:
            return self._files.isfile(name)

    @contextmanager
    def local(self, path: str) -> Iterator[Path]:
        """Give a read-only local file with the content: the file itself if the store is a folder, else a copy."""
        if self.is_local:
            with self._using(path) as name:
                self._files.size(name)
            yield Path(name)
            return
        with tempfile.TemporaryDirectory(prefix="emotivetalk-") as folder:
            copy = Path(folder) / path.rpartition("/")[2]
            with self._using(path) as name:
                self._files.get_file(name, str(copy))
            yield copy

    def remove(self, prefix: str) -> None:
        """Remove a file, or a folder with its content. A missing one is no error."""
        while True:
            try:
                with self._using(prefix) as name:
                    self._files.rm(name, recursive=True)
                return
            except ArtifactNotFoundError:
                with self._using(prefix) as name:
                    if not self._files.exists(name):  # else another process removes it too and took a part of it
                        return

    def check(self, min_free_bytes: int = _GIB) -> None:
        """Raise ArtifactStoreError unless files can be written and removed and a local disk has free space."""
        path = f"check-{uuid.uuid4().hex}"
        self.write(path, b"x")
        self.remove(path)
        if self.is_local:
            free = shutil.disk_usage(self._root).free
            if free < min_free_bytes:
                raise ArtifactStoreError(
                    "artifacts_no_space",
                    f"{self.url} has {free / _GIB:.1f} GiB free; {min_free_bytes / _GIB:.1f} GiB are needed",
                    "Free space, or keep finished videos for a shorter time.",
                )

    def _make_parents(self, name: str) -> None:
        # Object stores ignore this; remote file systems need it.
        self._files.makedirs(name.rpartition("/")[0], exist_ok=True)

    @contextmanager
    def _using(self, path: str, *, to_write: bool = False) -> Iterator[str]:
        """Give the name in the file system, and turn its exceptions into errors that name the path."""
        if not _PATH.fullmatch(path):
            raise ValueError(f"invalid path in the artifact store: {path!r}")
        try:
            yield f"{self._root}/{path}"
        except Exception as error:  # the packages behind fsspec share no base class of errors
            if not to_write and isinstance(error, _MISSING):
                raise ArtifactNotFoundError(path) from error
            reason = (error.strerror if isinstance(error, OSError) else None) or f"{type(error).__name__}: {error}"
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise ArtifactStoreError(
                    "artifacts_no_space", f"{path} cannot be written to {self.url}: {reason}", "Free space."
                ) from error
            raise ArtifactStoreError(
                "artifacts_unavailable",
                f"{path} cannot be used in {self.url}: {reason}",
                "Check that the store exists, and its permissions and credentials.",
            ) from error


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a file beside `path` that replaces it once it is written and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with unfinished.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name reaches the disk too
    finally:
        os.close(folder)


def _protocols(files: fsspec.AbstractFileSystem) -> tuple[str, ...]:
    return (files.protocol,) if isinstance(files.protocol, str) else tuple(files.protocol)


async def read_pieces(
    io: Executor, artifacts: ArtifactStore, path: str, start: int, stop: int
) -> AsyncGenerator[bytes, None]:
    """Yield the bytes from `start` up to `stop` (exclusive), in pieces of at most 256 KiB, read in threads of `io`."""
    for at in range(start, stop, PIECE_BYTES):
        yield await in_thread(io, artifacts.read_range, path, at, min(at + PIECE_BYTES, stop))

"""The files of jobs: a folder by default, an object store's URL in a cluster (fsspec).

A name has either the whole of what was written last under it, or nothing, whatever dies when.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

import fsspec

from emotivetalk.actors.errors import ArtifactNotFoundError, ArtifactStoreError
from emotivetalk.errors import InputError

# No "..", nothing absolute, no backslashes, no hidden names: those are what is being written.
_PATH = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199})*")
_NOT_THERE = (FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError)
_GIB = 1 << 30


class ArtifactStore:
    """Files under relative paths such as "jobs/video_0198/video.mp4". For any number of threads and processes at once.

    Every method raises `ValueError` for a path that is not relative and plain (letters, digits, ".", "_", "-" and "/"),
    `ArtifactNotFoundError` for a file that is not there, and `ArtifactStoreError` (codes "artifacts_no_space",
    "artifacts_unavailable") if the store cannot be used.

    Args:
        url: "file:///folder", a plain path, "memory://name" (one process only), "s3://bucket/prefix" or what else fsspec
            knows.

    Raises:
        InputError: code "artifacts_url": the URL cannot be used, or its package is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            # Listings are not kept: another process may have written a file a moment ago.
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
        """Make `data` the file's content; on a local disk it has reached the disk then."""
        with self._using(path, to_write=True) as name:
            if self.is_local:
                with _replacing(Path(name)) as file:
                    file.write(data)
            else:
                self._make_parents(name)
                self._files.pipe_file(name, data)

    def upload(self, local_path: Path, path: str) -> None:
        """Make a local file's content the file's content; the local file stays.

        Raises:
            FileNotFoundError: the local file is not there.
        """
        with local_path.open("rb") as source, self._using(path, to_write=True) as name:
            if self.is_local:
                with _replacing(Path(name)) as file:
                    shutil.copyfileobj(source, file, 1 << 20)
            else:
                self._make_parents(name)
                self._files.put_file(str(local_path), name)

    def read(self, path: str) -> bytes:
        """The whole content."""
        with self._using(path) as name:
            return self._files.cat_file(name)

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        """The bytes from `start` to before `stop`, fewer where the file ends earlier."""
        if not 0 <= start <= stop:
            raise ValueError(f"no range: {start} to {stop}")
        with self._using(path) as name:
            if start == stop:  # some stores cannot say "nothing"
                self._files.size(name)
                return b""
            return self._files.cat_file(name, start=start, end=stop)

    def open(self, path: str) -> BinaryIO:
        """A seekable reader; whoever opens it closes it."""
        with self._using(path) as name:
            return cast(BinaryIO, self._files.open(name, "rb"))

    def size(self, path: str) -> int:
        """Bytes."""
        with self._using(path) as name:
            return int(self._files.size(name))

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        with self._using(path) as name:
            return self._files.isfile(name)

    @contextmanager
    def local(self, path: str) -> Iterator[Path]:
        """A local file with the content, to be read only: the file itself where the store is a folder, else a copy."""
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
        """Remove a file, or a folder with everything in it. That it is not there is fine."""
        while True:
            try:
                with self._using(prefix) as name:
                    self._files.rm(name, recursive=True)
                return
            except ArtifactNotFoundError:
                with self._using(prefix) as name:
                    if not self._files.exists(name):  # else somebody removes it too, and was faster with a part of it
                        return

    def check(self, min_free_bytes: int = _GIB) -> None:
        """Raises ArtifactStoreError unless a file can be written and removed, and the disk has space (if it is local)."""
        path = f"check-{uuid.uuid4().hex}"
        self.write(path, b"x")
        self.remove(path)
        if self.is_local:
            free = shutil.disk_usage(self._root).free
            if free < min_free_bytes:
                raise ArtifactStoreError(
                    "artifacts_no_space",
                    f"{self.url} has {free / _GIB:.1f} GiB left; {min_free_bytes / _GIB:.1f} are wanted",
                    "Free space, or keep finished videos for a shorter time.",
                )

    def _make_parents(self, name: str) -> None:
        # Object stores have no folders and ignore this; remote file systems need it.
        self._files.makedirs(name.rpartition("/")[0], exist_ok=True)

    @contextmanager
    def _using(self, path: str, *, to_write: bool = False) -> Iterator[str]:
        """The name in the file system; what that raises becomes an error that says the path."""
        if not _PATH.fullmatch(path):
            raise ValueError(f"not a path in the artifact store: {path!r}")
        try:
            yield f"{self._root}/{path}"
        except Exception as error:  # the packages behind fsspec have errors of their own, of no common kind
            if not to_write and isinstance(error, _NOT_THERE):
                raise ArtifactNotFoundError(path) from error
            reason = (error.strerror if isinstance(error, OSError) else None) or f"{type(error).__name__}: {error}"
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise ArtifactStoreError(
                    "artifacts_no_space", f"{path} cannot be written to {self.url}: {reason}", "Free space."
                ) from error
            raise ArtifactStoreError(
                "artifacts_unavailable",
                f"{path} cannot be used in {self.url}: {reason}",
                "Check that the store is there, and its permissions and credentials.",
            ) from error


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its name once it is written and on the disk."""
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
        os.fsync(folder)  # the new name is on the disk, too
    finally:
        os.close(folder)


def _protocols(files: fsspec.AbstractFileSystem) -> tuple[str, ...]:
    return (files.protocol,) if isinstance(files.protocol, str) else tuple(files.protocol)

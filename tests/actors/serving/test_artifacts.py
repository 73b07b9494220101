"""The artifact store, on a folder and on two fsspec file systems: a file is complete or absent."""

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from emotivetalk.actors.errors import ArtifactNotFoundError, ArtifactStoreError
from emotivetalk.actors.serving.jobs.artifacts import ArtifactStore
from emotivetalk.errors import InputError
from tests.actors.serving.jobs_for_tests import process

PATH = "jobs/video_0198/segments/00003-2.m4s"
DATA = bytes(range(256)) * 40


@pytest.fixture(params=["folder", "file", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    urls = {
        "folder": str(tmp_path / "store"),
        "file": (tmp_path / "with space").as_uri().replace("%20", " "),
        "memory": f"memory://{tmp_path.name}",
    }
    return ArtifactStore(urls[request.param])


def test_a_written_file_can_be_read(files: ArtifactStore) -> None:
    assert not files.exists(PATH)
    files.write(PATH, DATA)
    assert files.exists(PATH) and files.size(PATH) == len(DATA) and files.read(PATH) == DATA
    assert not files.exists("jobs/video_0198")  # a folder is not a file
    files.write(PATH, b"")
    assert files.exists(PATH) and files.size(PATH) == 0 and files.read(PATH) == b""


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (5, 300), (0, 10240), (10000, 99999), (10240, 10241), (7, 7)])
def test_a_range_can_be_read(files: ArtifactStore, start: int, stop: int) -> None:
    files.write(PATH, DATA)
    assert files.read_range(PATH, start, stop) == DATA[start:stop]


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (5, 4), (0, -1)])
def test_an_invalid_range_is_refused(files: ArtifactStore, start: int, stop: int) -> None:
    files.write(PATH, DATA)
    with pytest.raises(ValueError, match="invalid range"):
        files.read_range(PATH, start, stop)


def test_an_open_file_can_seek(files: ArtifactStore) -> None:
    files.write(PATH, DATA)
    with files.open(PATH) as file:
        assert file.seek(-10, os.SEEK_END) == len(DATA) - 10
        assert file.read() == DATA[-10:]
        file.seek(3)
        assert file.read(4) == DATA[3:7]


def test_an_uploaded_file_can_be_opened_as_a_local_file(files: ArtifactStore, tmp_path: Path) -> None:
    source = tmp_path / "made.mp4"
    source.write_bytes(DATA)
    files.write(PATH, b"older")
    files.upload(source, PATH)
    assert source.read_bytes() == DATA
    with files.local(PATH) as path:
        assert path.read_bytes() == DATA
        assert path.suffix == ".m4s"
    assert path.exists() == files.is_local
    with pytest.raises(FileNotFoundError):
        files.upload(tmp_path / "missing.mp4", PATH)
    assert files.read(PATH) == DATA


def test_the_error_for_a_missing_file_has_its_path(files: ArtifactStore) -> None:
    def open_local(path: str) -> None:
        with files.local(path):
            pass

    calls: list[Callable[[str], object]] = [
        files.read,
        files.size,
        files.open,
        open_local,
        lambda path: files.read_range(path, 0, 3),
        lambda path: files.read_range(path, 0, 0),
    ]
    files.write("jobs/other", DATA)
    for call in calls:
        for path in (PATH, "jobs/other/below"):
            with pytest.raises(ArtifactNotFoundError, match=path):
                call(path)


def test_remove_deletes_only_the_given_folder_or_file(files: ArtifactStore) -> None:
    for path in (PATH, "jobs/video_0198/video.mp4", "jobs/video_01980/video.mp4"):
        files.write(path, DATA)
    files.remove("jobs/video_0198")
    files.remove("jobs/video_0198")
    assert not files.exists(PATH) and not files.exists("jobs/video_0198/video.mp4")
    assert files.exists("jobs/video_01980/video.mp4")
    files.remove("jobs/video_01980/video.mp4")
    assert not files.exists("jobs/video_01980/video.mp4")


BAD_PATHS = ["", "/etc/passwd", "..", "../x", "jobs/../../x", "jobs//x", "jobs/./x", "jobs/", ".hidden", "jobs/.hidden"]
BAD_PATHS += ["a\\..\\b", "a\0b", "a\nb", "a b", "ä", "jobs/*", "~/x", "s3://bucket/x", "x\n", "a/" + "b" * 201]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_path_that_could_leave_the_store_is_refused(files: ArtifactStore, tmp_path: Path, path: str) -> None:
    def open_local(path: str) -> None:
        with files.local(path):
            pass

    source = tmp_path / "source"
    source.write_bytes(b"x")
    calls: list[Callable[[str], object]] = [
        files.read,
        files.size,
        files.exists,
        files.open,
        files.remove,
        open_local,
        lambda path: files.read_range(path, 0, 1),
        lambda path: files.write(path, b""),
        lambda path: files.upload(source, path),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="invalid path"):
            call(path)


def test_concurrent_writers_leave_one_complete_file(files: ArtifactStore) -> None:
    contents = [bytes([number]) * 100_000 for number in range(6)]
    stop = threading.Event()
    contents_read = set()

    def read() -> None:
        while not stop.is_set():
            contents_read.add(files.read(PATH))

    files.write(PATH, contents[0])
    reader = threading.Thread(target=read)
    reader.start()
    writers = [threading.Thread(target=files.write, args=(PATH, content)) for content in contents]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    reader.join()
    assert files.read(PATH) in contents
    assert contents_read and contents_read <= set(contents)


def write_and_hang(pipe: Connection, folder: str, path: str) -> None:
    """Write a file and hang in fsync."""

    def hang(_: int) -> None:
        pipe.send("written")
        time.sleep(1e6)

    os.fsync = hang
    ArtifactStore(folder).write(path, DATA)


@pytest.mark.parametrize("before", [None, b"older"])
def test_a_killed_writer_does_not_change_the_file(tmp_path: Path, before: bytes | None) -> None:
    files = ArtifactStore(str(tmp_path))
    if before is not None:
        files.write(PATH, before)
    with process(write_and_hang, str(tmp_path), PATH) as pipe:
        assert pipe.recv() == "written"
    assert (files.read(PATH) if files.exists(PATH) else None) == before
    files.write(PATH, DATA)
    assert files.read(PATH) == DATA
    files.remove("jobs/video_0198")
    assert list((tmp_path / "jobs").iterdir()) == []  # its temporary file is removed with the job


def test_a_full_disk_is_an_error_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    files = ArtifactStore(str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(ArtifactStoreError, match="No space left") as caught:
            files.write(PATH, DATA)
    assert caught.value.code == "artifacts_no_space"
    assert list((tmp_path / PATH).parent.iterdir()) == []


def test_check_compares_free_space(files: ArtifactStore) -> None:
    files.check(min_free_bytes=0)
    if files.is_local:
        with pytest.raises(ArtifactStoreError) as caught:
            files.check(min_free_bytes=1 << 60)
        assert caught.value.code == "artifacts_no_space"


def test_check_finds_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the folder should be")
    with pytest.raises(ArtifactStoreError) as caught:
        ArtifactStore(str(tmp_path / "store")).check()
    assert caught.value.code == "artifacts_unavailable"


def test_concurrent_removals_succeed(tmp_path: Path) -> None:
    files = ArtifactStore(str(tmp_path))
    for number in range(200):
        (tmp_path / "jobs" / "a" / str(number)).mkdir(parents=True)
    removers = [threading.Thread(target=files.remove, args=("jobs/a",)) for _ in range(3)]
    for thread in removers:
        thread.start()
    shutil.rmtree(tmp_path / "jobs" / "a" / "199", ignore_errors=True)
    for thread in removers:
        thread.join()
    assert not (tmp_path / "jobs" / "a").exists()


@pytest.mark.parametrize("url", ["nonsense://x", "s3a9://bucket"])
def test_an_unsupported_url_is_refused(url: str) -> None:
    with pytest.raises(InputError) as caught:
        ArtifactStore(url)
    assert caught.value.code == "artifacts_url"

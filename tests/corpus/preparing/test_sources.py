"""Raw videos at URLs: download from a real server, and errors that name the video."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from emotivetalk.corpus.preparing import sources
from emotivetalk.corpus.preparing.sources import find_sources, local_copy
from emotivetalk.errors import InputError

CONTENT = bytes(range(256)) * 4096  # 1 MiB


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """Start a server with the file one.mp4, and return its URL."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "one.mp4").write_bytes(CONTENT)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_download_is_complete_and_deleted_afterwards(served: str, tmp_path: Path) -> None:
    (source,) = find_sources([f"{served}/one.mp4"], {})
    with local_copy(source, tmp_path) as path:
        assert path.read_bytes() == CONTENT
        assert path.suffix == ".mp4"
    assert not path.exists()


def test_the_error_names_a_missing_file(served: str) -> None:
    (source,) = find_sources([f"{served}/nobody.mp4"], {})
    with pytest.raises(InputError, match=r"nobody\.mp4.* could not be fetched") as refused, local_copy(source):
        pass
    assert refused.value.code == "url_unreachable"


def test_a_download_over_the_limit_is_an_error(served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = find_sources([f"{served}/one.mp4"], {})
    monkeypatch.setattr(sources, "MAX_BYTES", len(CONTENT) - 1)
    with pytest.raises(InputError, match=r"one\.mp4") as refused, local_copy(source):
        pass
    assert refused.value.code == "video_too_many_bytes"

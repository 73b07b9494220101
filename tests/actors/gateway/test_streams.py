"""Events, streams and HLS playlists of unfinished videos, and ranges of the finished file."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from emotivetalk.actors.serving.gateway.http.ranges import RangeError, part_of
from tests.actors.fake_backend import FakeDirector, video_bytes
from tests.actors.gateway.conftest import Serve, client_of, create
from tests.actors.gateway.serving import Serving
from tests.processes import wait_until

GROWING_PLAYLIST = [
    "#EXTM3U",
    "#EXT-X-VERSION:7",
    "#EXT-X-TARGETDURATION:20",
    "#EXT-X-MEDIA-SEQUENCE:0",
    "#EXT-X-PLAYLIST-TYPE:EVENT",
    "#EXT-X-INDEPENDENT-SEGMENTS",
]
"""Lines of the playlist of an unfinished video, before its first segment."""


def events(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """Parse server-sent events; a comment becomes {"": text}."""
    event: dict[str, str] = {}
    for line in lines:
        if line == "" and event:
            yield event
            event = {}
        elif line:
            name, _, value = line.partition(":")
            event[name] = value.removeprefix(" ")


def finished(client: httpx.Client) -> str:
    video = create(client)
    wait_until(lambda: client.get(f"/v1/videos/{video['id']}").json()["status"] == "completed")
    return f"/v1/videos/{video['id']}"


def test_events_report_each_change_and_end_with_the_video(client: httpx.Client, gated: FakeDirector) -> None:
    assert gated.gate is not None
    url = f"/v1/videos/{create(client)['id']}"
    with client.stream("GET", f"{url}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        stream = events(answer.iter_lines())
        received = [next(stream)]
        for expected in range(1, 10):
            gated.gate.release()
            while not received[-1].get("id", "").startswith(f"1-{min(expected * 10, 87)}-"):
                received.append(next(stream))
        rest = [event for event in stream if "event" in event]
    all_events = [event for event in received if "event" in event] + rest
    assert {event["event"] for event in all_events[:-1]} == {"progress"} and all_events[-1]["event"] == "completed"
    progress = [json.loads(event["data"])["progress"] for event in all_events]
    assert progress == sorted(progress) and progress[-1] == 100 and len(set(progress)) >= 10
    with client.stream("GET", f"{url}/events", headers={"last-event-id": all_events[-1]["id"]}) as answer:
        assert answer.status_code == 204  # 204 makes an EventSource stop


def test_events_resume_after_the_last_event_id(client: httpx.Client, gated: FakeDirector) -> None:
    assert gated.gate is not None
    url = f"/v1/videos/{create(client)['id']}"
    wait_until(lambda: client.get(url).json()["status"] == "in_progress")
    with client.stream("GET", f"{url}/events") as answer:
        first = next(events(answer.iter_lines()))
    with client.stream("GET", f"{url}/events", headers={"last-event-id": first["id"]}) as answer:
        stream = events(answer.iter_lines())
        assert next(stream) == {"": "heartbeat"}  # the client has received everything so far
        client.delete(url)
        assert next(event for event in stream if "event" in event)["event"] == "deleted"


def test_the_stream_delivers_each_segment_when_it_is_published(client: httpx.Client, gated: FakeDirector) -> None:
    assert gated.gate is not None
    url = f"/v1/videos/{create(client)['id']}"
    with client.stream("GET", f"{url}/stream") as answer:
        assert answer.headers["content-type"] == "video/mp4"
        pieces = answer.iter_raw()
        received = b""
        for number in range(1, 10):
            gated.gate.release()
            while len(received) < len(video_bytes(number)):
                received += next(pieces)
            assert received == video_bytes(number)
        assert b"".join(pieces) == b""
    wait_until(lambda: client.get(url).json()["status"] == "completed")
    assert client.get(f"{url}/content").content == received == client.get(f"{url}/stream").content


def test_the_stream_of_a_deleted_video_is_cut_off(client: httpx.Client, gated: FakeDirector) -> None:
    assert gated.gate is not None
    url = f"/v1/videos/{create(client)['id']}"
    with client.stream("GET", f"{url}/stream") as answer:
        gated.gate.release()
        pieces = answer.iter_raw()
        assert next(pieces).startswith(b"<init>")
        client.delete(url)
        with pytest.raises(httpx.RemoteProtocolError):
            list(pieces)


def test_closing_a_stream_does_not_cancel_the_job(client: httpx.Client, gated: FakeDirector) -> None:
    assert gated.gate is not None
    url = f"/v1/videos/{create(client)['id']}"
    for tail in ("stream", "events"):
        with client.stream("GET", f"{url}/{tail}"):
            wait_until(lambda: client.get(url).json()["status"] == "in_progress")
    for _ in range(9):
        gated.gate.release()
    wait_until(lambda: client.get(url).json()["status"] == "completed")


def test_the_playlist_grows_until_the_video_is_complete(client: httpx.Client, gated: FakeDirector) -> None:
    assert gated.gate is not None
    url = f"/v1/videos/{create(client)['id']}"
    gated.gate.release()
    answer = client.get(f"{url}/playlist.m3u8")  # returns when the first segment is published
    assert answer.headers["content-type"] == "application/vnd.apple.mpegurl"
    assert answer.text.splitlines() == [
        *GROWING_PLAYLIST,
        '#EXT-X-MAP:URI="init.mp4"',
        "#EXTINF:0.400,",
        "segments/0.m4s",
    ]
    assert client.get(f"{url}/segments/1.m4s").json()["error"]["code"] == "segment_not_found"
    for _ in range(8):
        gated.gate.release()
    wait_until(lambda: client.get(url).json()["status"] == "completed")
    playlist = client.get(f"{url}/playlist.m3u8").text
    assert "#EXT-X-PLAYLIST-TYPE:VOD" in playlist and playlist.endswith("#EXT-X-ENDLIST\n")
    named = [line for line in playlist.splitlines() if not line.startswith("#")]
    assert playlist.count("#EXTINF") == len(named) == 9 and "#EXTINF:0.280," in playlist
    joined = b"".join(client.get(f"{url}/{name}").content for name in ["init.mp4", *named])
    assert joined == client.get(f"{url}/content").content


def test_content_and_init_are_refused_before_they_exist(serve: Serve) -> None:
    serving = serve(playlist_wait_s=0.05)
    with client_of(serving) as client:
        url = f"/v1/videos/{create(client)['id']}"
        for tail in ("content", "init.mp4"):
            answer = client.get(f"{url}/{tail}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (409, "video_not_ready")
            assert int(answer.headers["retry-after"]) >= 1


def test_the_playlist_is_empty_before_the_first_segment(serve: Serve) -> None:
    with client_of(serve(playlist_wait_s=0.05)) as client:
        answer = client.get(f"/v1/videos/{create(client)['id']}/playlist.m3u8")
    assert answer.status_code == 200
    assert answer.text.splitlines() == GROWING_PLAYLIST


def test_range_requests(client: httpx.Client, director: FakeDirector) -> None:
    url = f"{finished(client)}/content"
    whole = client.get(url)
    data, etag = whole.content, whole.headers["etag"]
    assert whole.headers["accept-ranges"] == "bytes" and int(whole.headers["content-length"]) == len(data)
    for header, expected in [("bytes=0-3", data[:4]), ("bytes=4-", data[4:]), ("bytes=-5", data[-5:])]:
        answer = client.get(url, headers={"range": header})
        assert (answer.status_code, answer.content) == (206, expected)
        assert answer.headers["content-range"].endswith(f"/{len(data)}")
    assert client.get(url, headers={"range": "bytes=2-5", "if-range": etag}).content == data[2:6]
    assert client.get(url, headers={"range": "bytes=2-5", "if-range": '"other"'}).status_code == 200
    beyond = client.get(url, headers={"range": f"bytes={len(data)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(data)}")
    assert client.get(url, headers={"if-none-match": etag}).status_code == 304
    head = client.head(url)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(data)))
    assert client.get(url, params={"variant": "spritesheet"}).json()["error"]["param"] == "variant"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-99", (0, 10)), ("bytes=9-9", (9, 10)), ("bytes=-20", (0, 10)), ("BYTES = 1 - 2", (1, 3)),
        ("bytes=5-2", None), ("bytes=-", None), ("bytes=0-1,4-5", None), ("lines=0-1", None), ("bytes=a-b", None),
        ("bytes=" + "9" * 30 + "-", None),
    ],
)  # fmt: skip
def test_parsing_of_ranges(header: str, expected: tuple[int, int] | None) -> None:
    part = part_of({"range": header}, 10, '"tag"')
    assert (part.start, part.stop) == (expected or (0, 10))
    assert part.status == (200 if expected is None else 206)


def test_ranges_outside_the_file_are_refused() -> None:
    for header, size in [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0)]:
        with pytest.raises(RangeError):
            part_of({"range": header}, size, '"tag"')


def test_large_files_are_read_in_pieces(client: httpx.Client, serving: Serving, director: FakeDirector) -> None:
    url = finished(client)
    data = bytes(range(256)) * 4096  # 1 MiB, sent in four pieces
    serving.artifacts.write(f"jobs/{url.rsplit('/', 1)[-1]}/video.mp4", data)
    assert client.get(f"{url}/content").content == data
    assert client.get(f"{url}/content", headers={"range": "bytes=262143-524289"}).content == data[262143:524290]

"""Live calls on a cluster: fragments arrive during the speech, latents go by reference, and a closed call ends."""

from __future__ import annotations

import io
import queue
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from emotivetalk.actors.errors import OverloadError
from emotivetalk.client import Client, EmotionChange
from emotivetalk.media.audio import load_speech
from tests.actors.cluster.conftest import PORTRAIT, SPEECH, Cluster, replicas


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    with Client(f"127.0.0.1:{cluster.plan.config.grpc.port}", protocol="grpc") as made:
        yield made


@pytest.fixture(scope="module")
def speech() -> bytes:
    """Speech as 16-bit samples."""
    return (load_speech(SPEECH).waveform * 32_767).astype("<i2").tobytes()


def test_fragments_arrive_while_the_speech_is_sent(cluster: Cluster, client: Client, speech: bytes):
    stored = set(Path(cluster.plan.config.artifacts_url).rglob("*"))
    spoken: queue.Queue[bytes | EmotionChange | None] = queue.Queue()
    spoken.put(speech[:80_000])  # 2.5 s: more than a segment and the context that V-AID needs after it
    given = client.live(PORTRAIT, iter(spoken.get, None), emotion="happy", seed=3)
    parts = [next(given), next(given)]
    spoken.put(EmotionChange("sad:0.7"))
    spoken.put(speech[80_000:])
    spoken.put(None)
    parts += given

    num_frames = -(-len(speech) // 1280)
    with av.open(io.BytesIO(b"".join(parts))) as container:
        assert sum(1 for _ in container.decode(video=0)) == num_frames
    with av.open(io.BytesIO(b"".join(parts))) as container:
        sound = np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])
    assert abs(len(sound) / 48_000 - len(speech) / 32_000) < 0.03

    # The same speech in pieces of other sizes gives the same video.
    again = [speech[:30_001], speech[30_001:80_000], EmotionChange("sad:0.7"), speech[80_000:]]
    assert list(client.live(PORTRAIT, again, emotion="happy", seed=3)) == parts

    readers = {int(path.name.split("-")[0]) for path in cluster.array_readers.iterdir()}
    assert readers and not {process.pid for process in replicas("gateway")} & readers
    assert set(Path(cluster.plan.config.artifacts_url).rglob("*")) <= stored  # live calls store nothing


def test_a_closed_call_frees_its_place(cluster: Cluster, client: Client, speech: bytes):
    max_calls = cluster.plan.config.live.max_calls
    silent: queue.Queue[bytes | None] = queue.Queue()
    calls = [client.live(PORTRAIT, iter(silent.get, None)) for _ in range(max_calls)]
    for call in calls:
        next(call)
    with pytest.raises(OverloadError) as raised:
        list(client.live(PORTRAIT, [speech]))
    assert raised.value.code == "live_full"
    for call in calls:
        call.close()  # pyright: ignore[reportAttributeAccessIssue]
        silent.put(None)
    end = time.monotonic() + 30
    while True:
        try:
            assert len(list(client.live(PORTRAIT, [speech[:3200]]))) == 2
            return
        except OverloadError:
            assert time.monotonic() < end
            time.sleep(0.2)


def test_a_killed_replica_does_not_change_the_video(cluster: Cluster, client: Client, speech: bytes):
    undisturbed = list(client.live(PORTRAIT, [speech], seed=5))
    for name in ("ETHD", "VAID"):
        given = client.live(PORTRAIT, [speech], seed=5)
        parts = [next(given), next(given)]
        cluster.kill(name)
        assert [*parts, *given] == undisturbed

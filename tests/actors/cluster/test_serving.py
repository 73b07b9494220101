"""The whole application on a cluster: kills and scaling do not change a video, and latents go by reference."""

from __future__ import annotations

import io

import av
import numpy as np
import psutil
import pytest
import torch

from emotivetalk.actors.serving.jobs.files import JobFiles
from emotivetalk.media.fragments import ClipAudio, fragment
from emotivetalk.models.emotion import EmotionLabel
from emotivetalk.models.pipeline import load_pipeline
from tests.actors.cluster.conftest import Cluster, replicas


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster) -> tuple[str, list[bytes]]:
    """The id and the fragments of a video that was rendered without kills."""
    job_id = cluster.create()
    cluster.wait(job_id)
    return job_id, cluster.fragments(job_id)


def test_the_fragments_equal_those_of_the_pipeline(cluster: Cluster, undisturbed):
    job_id, fragments = undisturbed
    job = cluster.jobs.get(job_id)
    files = JobFiles(cluster.artifacts, job_id)
    pipeline = load_pipeline(cluster.checkpoint)
    pipeline.num_workers = 1
    speech = files.speech(job.request["num_samples"])[:]
    frames = torch.cat(list(pipeline(files.portrait(), speech, EmotionLabel("happy"), seed=0))).numpy()
    assert len(frames) == job.num_frames
    with cluster.artifacts.local(files.audio) as path, ClipAudio(path) as audio:
        for segment, served in zip(cluster.jobs.segments(job_id), fragments, strict=True):
            part = frames[segment.start_frame : segment.start_frame + segment.num_frames]
            is_last = segment.start_frame + segment.num_frames == job.num_frames
            made = fragment(part, segment.start_frame, audio, is_last=is_last, sequence=segment.index)
            assert made == served, f"segment {segment.index}"


def test_the_file_has_every_frame_and_all_of_the_sound(cluster: Cluster, undisturbed):
    job_id, fragments = undisturbed
    answer = cluster.http.get(f"/v1/videos/{job_id}/content")
    assert answer.status_code == 200
    assert answer.content.endswith(b"".join(fragments))
    with av.open(io.BytesIO(answer.content)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == cluster.jobs.get(job_id).num_frames
    with av.open(io.BytesIO(answer.content)) as container:
        sound = np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])
    assert abs(len(sound) / 48_000 - len(frames) / 25) < 0.1


def test_gateway_and_director_never_hold_a_latent(cluster: Cluster, undisturbed):
    """Only replicas of V-AID, ETHD and the decoder deserialise blocks and chunks."""
    readers = {int(path.name.split("-")[0]) for path in cluster.array_readers.iterdir()}
    titles = {pid: psutil.Process(pid).cmdline()[0] for pid in readers if psutil.pid_exists(pid)}
    kinds = {title.split(":")[4].split(".")[0] for title in titles.values()}
    assert {"ETHD", "decoder"} <= kinds <= {"VAID", "ETHD", "decoder"}  # V-AID may read the previous block
    for name in ("gateway", "director"):
        assert not {process.pid for process in replicas(name)} & readers


@pytest.mark.parametrize("num_replicas", [4, 2])
def test_the_number_of_replicas_does_not_change_the_video(cluster: Cluster, undisturbed, num_replicas: int):
    cluster.scale("ETHD", num_replicas)
    job_id = cluster.create()
    cluster.wait(job_id)
    assert cluster.fragments(job_id) == undisturbed[1]


@pytest.mark.parametrize("name", ["ETHD", "VAID", "decoder", "director", "gateway"])
def test_a_killed_replica_does_not_change_the_video(cluster: Cluster, undisturbed, name: str):
    """The job completes, and the segments published before the kill are kept."""
    job_id = cluster.create()
    cluster.wait_for_segment(job_id, 1)
    published = cluster.jobs.segments(job_id)
    cluster.kill(name)
    cluster.wait(job_id)
    segments = cluster.jobs.segments(job_id)
    assert [segment.index for segment in segments] == list(range(len(undisturbed[1])))
    assert segments[: len(published)] == published
    assert cluster.fragments(job_id) == undisturbed[1]


def test_cancelling_frees_the_replicas(cluster: Cluster):
    job_id = cluster.create()
    cluster.wait_for_segment(job_id, 1)
    answer = cluster.http.delete(f"/v1/videos/{job_id}")
    assert answer.status_code == 200
    after = cluster.create("sad")
    cluster.wait(after)
    assert cluster.http.get(f"/v1/videos/{job_id}").status_code == 404


def test_a_text_without_an_emotion_fails_the_job_with_a_code(cluster: Cluster):
    job_id = cluster.create(emotion='{"kind": "text", "text": "qwx zzkj vvpt"}')
    job = cluster.wait(job_id, "failed")
    assert job.error is not None
    assert job.error.code == "emotion_invalid"

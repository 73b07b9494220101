"""Bulk rendering on a cluster while replicas are killed or replaced: the videos equal those of single requests."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from emotivetalk.client import Client
from emotivetalk.client.bulk.outputs import OutputFolder, RowResult
from emotivetalk.client.bulk.rows import RowRules
from emotivetalk.client.bulk.runner import BulkRenderer, RunSettings
from tests.actors.cluster.conftest import PORTRAIT, SPEECH, Cluster, replicas

EMOTIONS = ("happy", "sad", "angry", "fear")


def test_rows_equal_single_videos_while_replicas_are_killed(cluster: Cluster, tmp_path: Path) -> None:
    rows = [
        {"custom_id": emotion, "portrait": str(PORTRAIT), "audio": str(SPEECH), "emotion": emotion}
        for emotion in EMOTIONS
    ]
    rows.insert(2, {"custom_id": "silent", "portrait": str(SPEECH), "audio": str(SPEECH)})
    manifest = tmp_path / "rows.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    killed: list[str] = []

    def kill(result: RowResult) -> None:
        if result.status == "completed" and len(killed) < 2:
            killed.append(("ETHD", "decoder")[len(killed)])
            cluster.kill(killed[-1])

    with Client(f"http://127.0.0.1:{cluster.plan.port}") as client:
        outputs = OutputFolder(tmp_path / "out")
        summary = BulkRenderer(client, outputs, RunSettings(rows_at_once=2), kill).run(
            str(manifest), RowRules(tmp_path)
        )
        assert (summary.completed, summary.failed, killed) == (4, 1, ["ETHD", "decoder"])
        single = client.create(PORTRAIT, SPEECH, emotion="fear")
        client.wait(single.id, progress=False)
        client.download(single.id, tmp_path / "single.mp4")
    assert (tmp_path / "out" / "fear.mp4").read_bytes() == (tmp_path / "single.mp4").read_bytes()


def test_ethd_is_replaced_while_a_batch_and_single_videos_are_rendered(cluster: Cluster, tmp_path: Path) -> None:
    expected = {}
    for emotion in EMOTIONS:
        job_id = cluster.create(emotion)
        cluster.wait(job_id)
        expected[emotion] = cluster.fragments(job_id)
    before = {process.pid for process in replicas("ETHD")}
    with Client(f"http://127.0.0.1:{cluster.plan.port}") as client:
        portrait, speech = client.batches.upload(PORTRAIT), client.batches.upload(SPEECH)
        rows = [
            {"custom_id": emotion, "portrait": {"file_id": portrait}, "audio": {"file_id": speech}, "emotion": emotion}
            for emotion in EMOTIONS
        ]
        manifest = tmp_path / "rows.jsonl"
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
        batch = client.batches.create(manifest)
        single = cluster.create("happy")
        cluster.wait_for_segment(single, 1)
        replaced = {**cluster.plan.options["ETHD"], "ray_actor_options": {"num_cpus": 0.11}}
        cluster.service.deploy(dataclasses.replace(cluster.plan, options={**cluster.plan.options, "ETHD": replaced}))
        assert cluster.create("sad")  # accepted while replicas change
        done = client.batches.wait(batch.id, timeout_s=240)
        assert (done.status, done.num_completed, done.num_failed) == ("completed", len(EMOTIONS), 0)
        results = {row["custom_id"]: row["response"]["body"]["id"] for row in client.batches.results(done)}
    assert not before & {process.pid for process in replicas("ETHD")}
    cluster.wait(single)
    assert cluster.fragments(single) == expected["happy"]
    for emotion, job_id in results.items():
        assert cluster.fragments(job_id) == expected[emotion]
    cluster.service.deploy(cluster.plan)

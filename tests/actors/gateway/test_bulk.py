"""Bulk rendering against an HTTP service: each row is rendered once or fails with a code, also in repeated runs."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from emotivetalk.actors.serving.gateway.settings import CallerLimits
from emotivetalk.actors.serving.jobs.store import JobError, JobStatus
from emotivetalk.client.bulk.outputs import OutputFolder, RowResult
from emotivetalk.client.bulk.report import write_report
from emotivetalk.client.bulk.rows import RowRules
from emotivetalk.client.bulk.runner import BulkRenderer, RunSettings, Summary
from emotivetalk.client.client import Client
from emotivetalk.errors import InputError, OutputError
from tests.actors.fake_backend import FakeDirector, video_bytes
from tests.actors.gateway.conftest import Serve
from tests.actors.gateway.serving import TOKEN, Serving
from tests.processes import wait_until


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Five rows, whose speech lasts 0.5 to 2.5 s."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "me.png").write_bytes(b"face: me")
    lines = []
    for number in range(1, 6):
        (folder / f"{number}.wav").write_bytes(b"speech: " + b"x" * number)
        lines.append({"custom_id": f"row-{number}", "portrait": "me.png", "audio": f"{number}.wav", "seed": number})
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def bulk_client(serving: Serving) -> Iterator[Client]:
    with Client(serving.url, TOKEN) as client:
        yield client


def renderer(client: Client, output: Path, **settings: object) -> BulkRenderer:
    chosen = RunSettings(**{"rows_at_once": 2, **settings})  # type: ignore[arg-type]
    return BulkRenderer(client, OutputFolder(output), chosen, lambda result: None)


def run(client: Client, manifest: Path, output: Path, **settings: object) -> Summary:
    return renderer(client, output, **settings).run(str(manifest), RowRules(manifest.parent))


def results(output: Path) -> dict[int, RowResult]:
    rows = [RowResult(**json.loads(line)) for line in (output / "results.jsonl").read_text().splitlines()]
    assert len({row.row for row in rows}) == len(rows)
    return {row.row: row for row in rows}


def num_jobs(serving: Serving) -> int:
    return len(serving.jobs.list("alice", limit=100).jobs)


def test_every_row_becomes_a_video_with_its_record(
    serving: Serving, director: FakeDirector, bulk_client: Client, manifest: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    summary = run(bulk_client, manifest, output)
    assert (summary.completed, summary.skipped, summary.failed) == (5, 0, 0)
    for number in range(1, 6):
        num_frames = (8000 * number * 25) // 16000
        assert (output / f"row-{number}.mp4").read_bytes() == video_bytes(-(-num_frames // 10))
        record = json.loads((output / f"row-{number}.json").read_text())
        assert record["settings"]["seed"] == number and record["result"]["video_s"] == num_frames / 25
    table = pq.read_table(output / "results.parquet").to_pylist()
    assert [RowResult(**row) for row in sorted(table, key=lambda row: row["row"])] == [
        results(output)[row] for row in range(1, 6)
    ]
    assert not list(output.glob("**/*.part*"))


def test_a_second_run_renders_only_missing_damaged_and_changed_rows(
    serving: Serving, director: FakeDirector, bulk_client: Client, manifest: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    run(bulk_client, manifest, output)
    assert run(bulk_client, manifest, output).skipped == 5 and num_jobs(serving) == 5
    (output / "row-1.mp4").unlink()
    (output / "row-2.mp4").write_bytes(b"damaged")
    (manifest.parent / "3.wav").write_bytes(b"speech: yyyyyyy")
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join(reversed(lines)) + "\n")
    summary = run(bulk_client, manifest, output)
    assert (summary.completed, summary.skipped) == (3, 2)
    assert {row.id for row in results(output).values() if row.status == "completed"} == {"row-1", "row-2", "row-3"}
    assert num_jobs(serving) == 6  # the deleted and the damaged video were downloaded again, not rendered
    assert (output / "row-2.mp4").read_bytes() == video_bytes(3)


def test_broken_rows_fail_with_a_code_and_the_others_are_rendered(
    director: FakeDirector, bulk_client: Client, manifest: Path, tmp_path: Path
) -> None:
    (manifest.parent / "noface.png").write_bytes(b"a landscape")
    good = {"portrait": "me.png", "audio": "1.wav"}
    broken = [
        ("{", "row_not_json"),
        ({**good, "custom_id": "row-1"}, "row_duplicate"),
        ({**good, "audio": "gone.wav"}, "audio_missing"),
        ({**good, "emotion": "hapy"}, "emotion_invalid"),
        ({**good, "colour": "red"}, "row_field_unknown"),
        ({**good, "portrait": "noface.png"}, "face_missing"),
    ]
    with manifest.open("a") as file:
        for row, _ in broken:
            file.write((row if isinstance(row, str) else json.dumps(row)) + "\n")
    output = tmp_path / "out"
    summary = run(bulk_client, manifest, output)
    assert (summary.completed, summary.failed) == (5, len(broken))
    found = results(output)
    assert [found[6 + index].error_code for index in range(len(broken))] == [code for _, code in broken]
    assert all(found[6 + index].error_message for index in range(len(broken)))


def test_failed_rows_are_repeated_only_with_retry_failed(
    serving: Serving, director: FakeDirector, bulk_client: Client, manifest: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    director.fails_with = JobError("replica_lost", "the replica died twice")
    assert run(bulk_client, manifest, output).failures == {"replica_lost": 5}
    director.fails_with = None
    assert run(bulk_client, manifest, output).failed == 5 and num_jobs(serving) == 5
    assert run(bulk_client, manifest, output, retry_failed=True).completed == 5
    assert {row.attempts for row in results(output).values()} == {2}
    assert run(bulk_client, manifest, output).skipped == 5


def test_a_second_run_uses_the_jobs_of_a_stopped_one(
    serving: Serving, gated: FakeDirector, bulk_client: Client, manifest: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    first = renderer(bulk_client, output)
    thread = threading.Thread(target=first.run, args=(str(manifest), RowRules(manifest.parent)))
    thread.start()
    wait_until(lambda: num_jobs(serving) == 2)
    first.stop()
    thread.join(20)
    assert not thread.is_alive() and first.summary.num_ended == 0 and results(output) == {}
    assert gated.gate is not None
    gated.gate.release(100)
    assert run(bulk_client, manifest, output).completed == 5
    assert num_jobs(serving) == 5


def test_rows_wait_if_the_service_limits_concurrent_jobs(serve: Serve, manifest: Path, tmp_path: Path) -> None:
    limits = CallerLimits(max_concurrent_jobs=1, requests_per_minute=100_000)
    serving = serve(limits=limits.model_dump())
    director = FakeDirector(serving.jobs, serving.artifacts)
    director.start()
    with Client(serving.url, TOKEN) as client:
        assert run(client, manifest, tmp_path / "out", rows_at_once=4).completed == 5
    director.stop()


def test_videos_can_be_removed_from_the_service(
    serving: Serving, director: FakeDirector, bulk_client: Client, manifest: Path, tmp_path: Path
) -> None:
    assert run(bulk_client, manifest, tmp_path / "out", keep_on_service=False).completed == 5
    assert num_jobs(serving) == 0


def test_a_cancelled_video_is_a_failed_row(
    serving: Serving, gated: FakeDirector, bulk_client: Client, manifest: Path, tmp_path: Path
) -> None:
    manifest.write_text(manifest.read_text().splitlines()[0] + "\n")
    output = tmp_path / "out"
    running = renderer(bulk_client, output)
    thread = threading.Thread(target=running.run, args=(str(manifest), RowRules(manifest.parent)))
    thread.start()
    wait_until(lambda: num_jobs(serving) == 1)
    bulk_client.cancel(serving.jobs.list("alice").jobs[0].job_id)
    thread.join(20)
    assert results(output)[1].error_code == "video_cancelled"
    assert serving.jobs.list("alice").jobs[0].status is JobStatus.CANCELLED


def test_invalid_bytes_in_the_manifest_end_the_run(
    director: FakeDirector, bulk_client: Client, manifest: Path, tmp_path: Path
) -> None:
    with manifest.open("ab") as file:
        file.write(b"\xff\n")
    with pytest.raises(InputError, match="line 6 is not UTF-8"):
        run(bulk_client, manifest, tmp_path / "out")


def test_a_run_continues_after_a_full_disk(
    director: FakeDirector, bulk_client: Client, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    real = Client.download

    def full(self: Client, video_id: str, path: Path) -> Path:
        if path.name == "row-3.mp4":
            raise OutputError(
                "output_failed", f"{path} cannot be written (No space left on device)", "Free some space."
            )
        return real(self, video_id, path)

    monkeypatch.setattr(Client, "download", full)
    with pytest.raises(OutputError, match="No space left"):
        run(bulk_client, manifest, output)
    monkeypatch.undo()
    summary = run(bulk_client, manifest, output)
    assert summary.skipped + summary.completed == 5 and summary.skipped >= 1


def test_the_report_has_every_row_and_escapes_names(tmp_path: Path) -> None:
    rows = [RowResult(number, f"row-{number}", "skipped", video=f"row-{number}.mp4") for number in range(1, 10_001)]
    rows.append(RowResult(10_001, None, "failed", "row_field_unknown", "no field '</script><script>alert(1)'"))
    source = tmp_path / "results.jsonl"
    source.write_text("".join(json.dumps(vars(row)) + "\n" for row in rows))
    write_report(source, tmp_path / "report.html", "Videos of <rows>")
    page = (tmp_path / "report.html").read_text()
    assert page.count("</script>") == 2 and "<title>Videos of &lt;rows&gt;</title>" in page
    data = page.split('id="data">')[1].split("</script>")[0]
    assert len(json.loads(data)["rows"]) == 10_001

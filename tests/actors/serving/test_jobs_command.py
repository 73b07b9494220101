"""`emotivetalk jobs` on the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from emotivetalk.actors.serving.jobs.store import JobError, JobStatus, JobStore
from emotivetalk.cli import run
from tests.actors.serving.jobs_for_tests import NUM_SEGMENTS, add, claimed, segment


@pytest.fixture
def jobs(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> JobStore:
    monkeypatch.setenv("EMOTIVETALK_JOBS", sqlite_url)
    return JobStore(sqlite_url)


@pytest.mark.parametrize("command", ["", "list", "show", "cancel", "retry"])
def test_help_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*f"jobs {command}".split(), "--help"]) == 0
    assert f"Example:\n    emotivetalk jobs {command or 'list'}" in capsys.readouterr().out


def test_list_prints_and_filters_jobs(jobs: JobStore, sqlite_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = add(jobs, "ada"), add(jobs, "[bold]bob\x1b[2J")
    jobs.cancel(first.job_id)
    assert run(["jobs", "list", "--store", sqlite_url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["id", "status"],
        [second.job_id, "queued"],
        [first.job_id, "cancelled"],
    ]
    assert "[bold]bob?[2J" in lines[1]
    assert run(["jobs", "list", "--limit", "1"]) == 0
    assert f"--after {second.job_id}" in capsys.readouterr().out
    for options in (["--status", "cancelled"], ["--owner", "ada"], ["--after", second.job_id]):
        assert run(["jobs", "list", "--json", *options]) == 0
        page = json.loads(capsys.readouterr().out)
        assert [job["job_id"] for job in page["jobs"]] == [first.job_id]
        assert page["has_more"] is False


def test_show_prints_status_error_and_segments(jobs: JobStore, capsys: pytest.CaptureFixture[str]) -> None:
    job = add(jobs)
    claim = claimed(jobs)
    jobs.plan(claim, NUM_SEGMENTS)
    jobs.publish_segment(claim, segment(claim, 0))
    jobs.fail(claim, JobError("render_failed", "line one\nline two"))
    assert run(["jobs", "show", job.job_id]) == 0
    text = capsys.readouterr().out
    for part in (job.job_id, "failed, 33 %", "render_failed: line one?line two", "1 of 3", "0 to 9", "ethd 1.5"):
        assert part in text
    assert run(["jobs", "show", job.job_id, "--json"]) == 0
    details = json.loads(capsys.readouterr().out)
    assert (details["status"], details["progress"], details["error"]["code"]) == ("failed", 33, "render_failed")
    assert details["segments"][0]["path"] == segment(claim, 0).path


def test_cancel_and_retry_change_the_status(jobs: JobStore, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = add(jobs), add(jobs)
    assert run(["jobs", "cancel", first.job_id, second.job_id]) == 0
    assert capsys.readouterr().out == f"{first.job_id} cancelled\n{second.job_id} cancelled\n"
    assert run(["jobs", "retry", first.job_id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "queued"
    assert [jobs.get(job.job_id).status for job in (first, second)] == [JobStatus.QUEUED, JobStatus.CANCELLED]


@pytest.mark.parametrize(
    ("arguments", "status", "part"),
    [
        (["show", "video_missing"], 2, "there is no video video_missing"),
        (["cancel", "video_missing"], 2, "there is no video video_missing"),
        (["list", "--status", "done"], 2, "Choose one of queued, in_progress, completed, failed, cancelled"),
        (["list", "--after", "../x"], 2, "`after` is not the id of a video"),
        (["list", "--limit", "0"], 2, "limit"),
        (["list", "--store", "mysql://host/x"], 2, "postgresql://"),
        (["list", "--store", "sqlite:////nowhere/jobs.db"], 1, "there is no job store at sqlite:////nowhere/jobs.db"),
        (["cancel"], 2, "ID"),
    ],
)
def test_an_error_is_one_line(
    jobs: JobStore, arguments: list[str], status: int, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["jobs", *arguments]) == status
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert part in captured.err
    assert captured.out == ""


def test_retrying_a_queued_job_is_refused(jobs: JobStore, capsys: pytest.CaptureFixture[str]) -> None:
    job = add(jobs)
    assert run(["jobs", "retry", job.job_id]) == 2
    assert "is queued; only failed and cancelled" in capsys.readouterr().err


def test_the_store_must_be_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("EMOTIVETALK_JOBS", raising=False)
    assert run(["jobs", "list"]) == 2
    assert "EMOTIVETALK_JOBS" in capsys.readouterr().err


def test_help_imports_no_database(tmp_path: Path) -> None:
    program = (
        "import sys; from emotivetalk.cli import run; run(['jobs', 'list', '--help']);"
        "print('LOADED', sorted({'sqlalchemy', 'fsspec', 'ray', 'torch', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED []"

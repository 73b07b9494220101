"""Isolated processes: reports, limits, silence, and an environment without secrets."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from emotivetalk.media.isolated_process import IsolatedProcess
from tests.processes import is_running

PROGRAM = """
import json, os, sys
from emotivetalk.media.isolated_process import ProcessLimits, limit, open_reports

reports = open_reports()
setup = json.loads(sys.stdin.readline())
limit(ProcessLimits(**setup["limits"]))
print("a library prints this")
exec(setup["code"])
"""
LIMITS = {"memory_bytes": 1 << 30}


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "isolated_program.py").write_text(PROGRAM)
    monkeypatch.syspath_prepend(str(tmp_path))


def run(code: str, timeout_s: float = 30.0, **limits: float) -> tuple[list[dict], int, str]:
    with IsolatedProcess("isolated_program") as process:
        process.send({"limits": LIMITS | limits, "code": code})
        lines = list(process.lines(timeout_s))
        return lines, process.wait(timeout_s), process.error_output


def test_only_reports_are_reports() -> None:
    lines, status, errors = run("reports.write(part=1); os.write(1, b'no JSON'); reports.write(done=True)")
    assert lines == [{"part": 1}, {"done": True}] and status == 0
    assert "a library prints this" in errors


def test_secrets_stay_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMOTIVETALK_TOKENS", "secret")
    lines, _, _ = run("reports.write(names=sorted(os.environ), folder=os.getcwd())")
    assert "EMOTIVETALK_TOKENS" not in lines[0]["names"] and lines[0]["folder"] == "/"


def test_memory_and_files_and_time_are_limited(tmp_path: Path) -> None:
    assert "MemoryError" in run("bytearray(2 << 30)")[2]
    code = f"open({str(tmp_path / 'file')!r}, 'wb').write(bytes(10_000))"
    assert "File too large" in run(code, file_bytes=1000)[2]
    assert run("import time; time.sleep(60)", wall_s=0.2)[1] == -signal.SIGALRM
    assert run("while True: pass", cpu_s=0)[1] in (-signal.SIGXCPU, -signal.SIGKILL)


def test_a_silent_process_times_out_and_is_killed() -> None:
    with IsolatedProcess("isolated_program") as process:
        process.send({"limits": LIMITS, "code": "reports.write(ready=True); sys.stdin.readline()"})
        lines = process.lines(30.0)
        assert next(lines) == {"ready": True}
        with pytest.raises(TimeoutError):
            list(process.lines(0.2, since_output=True))
        assert process.is_running
        pid = process.pid
    assert not is_running(pid)

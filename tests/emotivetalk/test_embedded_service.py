"""The service that a command starts for itself comes back when it dies, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

from emotivetalk import embedded_service
from emotivetalk.embedded_service import EmbeddedService
from emotivetalk.errors import EmotiveTalkError
from tests.processes import wait_until

FAKE = """
import http.server, os, sys
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(str(os.getpid()).encode())
    def log_message(self, *_): pass
if len(sys.argv) > 2: sys.exit("the disk is on fire")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Ready).serve_forever()
"""


def pid_at(url: str) -> int | None:
    with suppress(OSError), urllib.request.urlopen(url + "/", timeout=5) as answer:
        return int(answer.read())
    return None


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddedService:
    """A service whose command is a small web server in place of Ray."""
    script = tmp_path / "fake.py"
    script.write_text(textwrap.dedent(FAKE))

    def command(self: EmbeddedService, port: int) -> list[str]:
        more = ["broken"] if (tmp_path / "broken").exists() else []
        return [sys.executable, str(script), str(port), *more]

    monkeypatch.setattr(EmbeddedService, "_command", command)
    return EmbeddedService(tmp_path / "private", None, None, 4)


def test_a_service_that_dies_comes_back_at_the_same_address(service: EmbeddedService) -> None:
    lost: list[EmotiveTalkError] = []
    with service.running(lost.append) as url:
        first = pid_at(url)
        assert first is not None
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: pid_at(url) not in (None, first), timeout_s=30)
        second = pid_at(url)
    assert lost == [] and second is not None and not psutil.pid_exists(second)
    with pytest.raises(OSError):
        urllib.request.urlopen(url, timeout=2)


def test_one_that_does_not_start_says_why(service: EmbeddedService, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    with pytest.raises(EmotiveTalkError) as raised, service.running(lambda error: None):
        raise AssertionError("it is not ready")
    assert "does not start (the disk is on fire)" in raised.value.message
    assert raised.value.code == "serve_failed" and str(service.log) in raised.value.remedy


def test_one_that_dies_again_and_again_is_given_up(
    service: EmbeddedService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_service, "MAX_RESTARTS", 2)
    lost: list[EmotiveTalkError] = []
    (tmp_path / "fake.py").write_text(
        textwrap.dedent(FAKE).replace("len(sys.argv) > 2", f"os.path.exists({str(tmp_path / 'dead')!r})")
    )
    with service.running(lost.append) as url:
        (tmp_path / "dead").touch()
        os.kill(pid_at(url) or 0, signal.SIGKILL)
        wait_until(lambda: bool(lost), timeout_s=30)
    assert lost[0].code == "serve_failed" and "again and again" in lost[0].message


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_it_ends_with_a_killed_command(service: EmbeddedService, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    program = f"""
        import sys, time
        from pathlib import Path
        from emotivetalk.embedded_service import EmbeddedService
        EmbeddedService._command = lambda self, port: [sys.executable, {str(tmp_path / "fake.py")!r}, str(port)]
        with EmbeddedService(Path({str(tmp_path / "other")!r}), None, None, 1).running(print) as url:
            import urllib.request
            Path({str(pid_file)!r}).write_bytes(urllib.request.urlopen(url + "/").read())
            time.sleep(60)
    """
    command = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stderr=subprocess.DEVNULL)
    wait_until(lambda: pid_file.exists() and bool(pid_file.read_text()), timeout_s=30)
    child = psutil.Process(int(pid_file.read_text()))
    command.kill()
    command.wait()
    child.wait(20)


def test_its_configuration_is_the_local_one_on_loopback(tmp_path: Path) -> None:
    from emotivetalk.actors.serving.launch import read_plan

    service = EmbeddedService(tmp_path, tmp_path / "checkpoint", None, 7)
    command = service._command(12345)
    plan = read_plan(Path(command[-1]))
    assert (plan.host, plan.port, plan.config.grpc.port) == ("127.0.0.1", 12345, None)
    assert plan.config.gateway.limits.max_concurrent_jobs == 7 and plan.config.gateway.allow_anonymous
    assert plan.config.data_folder == tmp_path / "service" and plan.config.checkpoint == tmp_path / "checkpoint"
    assert yaml.safe_load(Path(command[-1]).read_text())["applications"][0]["deployments"]
    assert EmbeddedService(tmp_path, None, "head:6379", 1)._command(1)[-2:] == ["--address", "head:6379"]


def test_a_configuration_keeps_its_stores_and_replicas_and_comes_to_loopback(tmp_path: Path) -> None:
    from emotivetalk.actors.serving.launch import CONFIGS, read_plan

    service = EmbeddedService(tmp_path, tmp_path / "checkpoint", "auto", 7, CONFIGS / "cluster.yaml")
    given, plan = read_plan(CONFIGS / "cluster.yaml"), read_plan(Path(service._command(12345)[4]))
    assert (plan.host, plan.port, plan.config.grpc.port) == ("127.0.0.1", 12345, None)
    assert plan.config.gateway.tokens_file is None and plan.config.gateway.allow_anonymous
    assert (plan.config.jobs, plan.config.artifacts) == (given.config.jobs, given.config.artifacts)
    assert plan.options == given.options and plan.config.director == given.config.director

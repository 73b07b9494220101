"""The wheel works in environments with only the declared dependencies, beside modules named like our folders.

Installing the dependencies anew takes minutes and gigabytes, so each environment links those that the wheel's metadata
and the named extras ask for, and no others, from the environment that runs the tests. An undeclared dependency is
therefore missing. The editable install of this checkout is not linked; `test_imports_come_from_the_wheel` checks that.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import wave
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.processes import free_port

ROOT = Path(__file__).resolve().parents[2]
NOT_IN_A_CHECKOUT = (".venv", ".git", "build", "dist", "runs", "__pycache__", "*.egg-info", ".*_cache", ".hypothesis")
NAMESAKES = {
    "models/__init__.py": "",
    "models/emotion.py": "MOODS = ('calm',)",
    "media.py": "",
    "corpus.py": "",
    "training.py": "",
    "evaluation.py": "",
    "actors.py": "",
}
START_S = 180


@dataclass(frozen=True)
class Installed:
    """An environment that has the wheel, and the folder in which the commands run."""

    bin: Path
    work: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        return kept | {"OMP_NUM_THREADS": "1", "EMOTIVETALK_DATA": str(self.work / "data")}

    def command(self, *arguments: str) -> list[str]:
        """Return a command line of `python -m emotivetalk`, which puts the working folder on Python's path."""
        return [str(self.bin / "python"), "-m", "emotivetalk", *arguments]

    def run(self, *arguments: str, timeout_s: float = 300) -> str:
        """Run a command in the working folder and return what it printed; fail unless it exits with 0."""
        return self._run(self.command(*arguments), timeout_s)

    def python(self, code: str) -> str:
        """Run a program in the working folder and return what it printed."""
        return self._run([str(self.bin / "python"), "-c", code], 120)

    def _run(self, command: list[str], timeout_s: float) -> str:
        done = subprocess.run(
            command, cwd=self.work, env=self.environment, capture_output=True, text=True, timeout=timeout_s
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # A copy: setuptools leaves `build/` behind, and would pack what an earlier build left there.
    shutil.copytree(ROOT, folder / "checkout", ignore=shutil.ignore_patterns(*NOT_IN_A_CHECKOUT))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(folder / "checkout")], check=True)
    (built,) = folder.glob("emotivetalk-*.whl")
    return built


def install(wheel: Path, folder: Path, extras: set[str]) -> Installed:
    """Install the wheel and link the dependencies of these extras; make a project with modules named like our folders."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
    python = folder / "env" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True)
    (packages,) = (folder / "env").glob("lib/python*/site-packages")
    link_distributions(dependencies(packages, extras), folder / "dependencies")
    (packages / "dependencies.pth").write_text(f"{folder / 'dependencies'}\n")

    work = folder / "project"
    for name, text in NAMESAKES.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(text)
    with wave.open(str(ROOT / "examples" / "hello.wav")) as speech, wave.open(str(work / "hello.wav"), "wb") as start:
        start.setparams(speech.getparams())
        start.writeframes(speech.readframes(speech.getframerate()))
    return Installed(python.parent, work)


def dependencies(packages: Path, extras: set[str]) -> list[Distribution]:
    """Return what the installed wheel requires with these extras, directly and indirectly."""
    (wheel,) = distributions(name="emotivetalk", path=[str(packages)])
    found: dict[tuple[str, str], Distribution] = {}
    pending = [(wheel, extra) for extra in ("", *extras)]
    while pending:
        owner, extra = pending.pop()
        for line in owner.requires or ():
            requirement = Requirement(line)
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
                continue
            for wanted in ("", *requirement.extras):
                key = (canonicalize_name(requirement.name), wanted)
                if key not in found:
                    found[key] = distribution(requirement.name)
                    pending.append((found[key], wanted))
    return list({name: dist for (name, _), dist in found.items()}.values())


def link_distributions(wanted: list[Distribution], folder: Path) -> None:
    """Link the files of these distributions, those outside of site-packages (console scripts) left out."""
    for dist in wanted:
        for file in dist.files or ():
            if ".." in file.parts or file.suffix == ".pyc":
                continue
            link = folder / file
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(Path(str(dist.locate_file(file))).resolve())


@pytest.fixture(scope="module")
def minimal(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(wheel, tmp_path_factory.mktemp("minimal"), set())


@pytest.fixture(scope="module")
def training(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(wheel, tmp_path_factory.mktemp("training"), {"text", "train"})


@pytest.fixture(scope="module")
def serving(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(wheel, tmp_path_factory.mktemp("serving"), {"text", "serve"})


@contextmanager
def served(installed: Installed) -> Iterator[str]:
    """Run `emotivetalk serve` and give its address once it answers."""
    port = free_port()
    command = installed.command("serve", "--port", str(port), "--grpc-port", str(free_port()))
    log = installed.work / "serve.log"
    with log.open("w") as output:
        service = subprocess.Popen(command, cwd=installed.work, env=installed.environment, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + START_S
        while not _is_ready(f"http://127.0.0.1:{port}"):
            assert service.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        service.send_signal(signal.SIGINT)
        service.wait(60)


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz", timeout=5).is_success
    except httpx.HTTPError:
        return False


def test_wheel_has_what_the_commands_need_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {"actors", "checkpoints", "client", "corpus", "evaluation", "media", "models", "serve_configs"}
    for folder in sources | {"train_configs", "training"}:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".py", ".yaml", ".json", ".safetensors"}:
                assert f"emotivetalk/{path.relative_to(ROOT)}" in names
    for path in (ROOT / "emotivetalk").rglob("*.py"):
        assert str(path.relative_to(ROOT)) in names
    for package in ("", "actors/", "client/", "corpus/", "evaluation/", "media/", "models/", "training/"):
        assert f"emotivetalk/{package}py.typed" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"emotivetalk"}
    assert not any("test" in Path(name).parts[1] for name in names)


def test_imports_come_from_the_wheel(minimal: Installed) -> None:
    code = "import emotivetalk, emotivetalk.models as m, models, media; print(emotivetalk.__file__, m.__file__, models.__file__)"
    ours, networks, theirs = map(Path, minimal.python(code).split())
    assert ours.is_relative_to(minimal.bin.parent)
    assert networks.is_relative_to(minimal.bin.parent)
    assert theirs.is_relative_to(minimal.work)


def test_generates_a_video(minimal: Installed) -> None:
    minimal.run("avatar", "--seed", "7", "-o", "portrait.png")
    minimal.run("generate", "--portrait", "portrait.png", "--audio", "hello.wav", "--emotion", "angry", "-o", "a.mp4")
    assert (minimal.work / "a.mp4").stat().st_size > 10_000


def test_console_script(minimal: Installed) -> None:
    done = subprocess.run([minimal.bin / "emotivetalk", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("emotivetalk ")


def test_trains_and_evaluates(training: Installed) -> None:
    """The configurations that ship name relative folders, which are the working folder's."""
    corpus = ("--identities", "4", "--clips", "2", "--held-out", "12")
    training.run("synthesize", "-o", "build/corpus/debug", *corpus)
    training.run("train", "train_configs/lip_sync_debug.yaml", "--set", "steps=4")
    assert (training.work / "build/checkpoints/debug/lip_encoder/config.json").is_file()

    training.run("evaluate", "--slice", "--corpus", "build/corpus/debug", "-o", "report", timeout_s=900)
    report = json.loads((training.work / "report" / "report.json").read_text())
    assert {"emotion.label", "mouth_r.held_out"} <= report["kinds"]["avatars"]["figures"].keys()


def test_serves_a_video(serving: Installed) -> None:
    assert "FAILURE" not in serving.run("doctor")
    serving.run("avatar", "--seed", "7", "-o", "face.png")
    with served(serving) as address:
        code = f"""
from emotivetalk import Client
with Client("{address}") as client:
    video = client.create("face.png", "hello.wav", emotion="happy:0.8")
    client.wait(video.id)
    client.download(video.id, "served.mp4")
"""
        serving.python(code)
    assert (serving.work / "served.mp4").stat().st_size > 10_000

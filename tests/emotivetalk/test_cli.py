"""The command line as a user meets it: help that answers at once, and one line for whatever went wrong."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from emotivetalk.cli import run
from emotivetalk.errors import EmotiveTalkError
from emotivetalk.training.run.loop import TrainResult

COMMANDS = ("generate", "avatar", "synthesize", "prepare", "train", "evaluate", "ablate")
GENERATE = """
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

from emotivetalk.cli import main

def generate_video(inputs, output, *_, **__):
    output.write_text("video")
    return SimpleNamespace(video_s=1.0, total_s=1.0, first_frame_s=1.0, load_s=0.0, realtime_factor=1.0)

generation = ModuleType("emotivetalk.generation")
generation.Inputs, generation.generate_video = (lambda *_: None), generate_video
sys.modules["emotivetalk.generation"] = generation
main()
"""
HEAVY = ("torch", "diffusers", "transformers", "av", "cv2", "numpy", "pyarrow", "matplotlib")


def help_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run([*arguments, "--help"]) == 0
    return capsys.readouterr().out


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys)
    assert "Example:" in text
    assert all(command in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys, command)
    assert "Example:\n" in text
    assert f"\n    emotivetalk {command}" in text


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "Usage: emotivetalk" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("emotivetalk ")


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"], ["generate", "--portrait", "missing.png"]])
def test_help_and_wrong_options_import_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys; from emotivetalk.cli import run; run(sys.argv[1:]);"
        f"print('LOADED', sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_python_m_gives_the_exit_status() -> None:
    command = [sys.executable, "-m", "emotivetalk", "generate"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_an_unknown_command_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["animate"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (
            EmotiveTalkError("disk_full", "the disk is full", "Free some space."),
            1,
            "the disk is full. Free some space.",
        ),
        (RuntimeError("first line\nsecond line"), 1, "RuntimeError: first line second line."),
    ],
)
def test_what_fails_inside_is_one_line(
    raised: Exception,
    status: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise raised

    monkeypatch.setattr("emotivetalk.commands.avatar.check_output", fail)
    command = ["avatar", "-o", str(tmp_path / "portrait.png")]
    assert run(command) == status
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1
    assert run(["--debug", *command]) == status
    assert "Traceback" in capsys.readouterr().err


def test_interrupting_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("emotivetalk.commands.avatar.check_output", interrupt)
    assert run(["avatar", "-o", "portrait.png"]) == 130
    assert capsys.readouterr().err == ""


def test_what_was_stopped_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("emotivetalk.training.run.loop.train", lambda *_, **__: TrainResult(3, False, tmp_path, {}))
    command = ["train", "train_configs/autoencoder_debug.yaml"]
    assert run(command) == 130
    assert "Go on with the same command and --resume." in capsys.readouterr().out


def test_an_ablation_that_was_stopped_goes_on_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("emotivetalk.commands.ablate.check_corpus", lambda _: None)
    monkeypatch.setattr("emotivetalk.training.ablation.train", lambda *_, **__: TrainResult(3, False, tmp_path, {}))
    assert run(["ablate", "no-push-loss", "-o", str(tmp_path / "ablation")]) == 130
    said = capsys.readouterr().out
    assert "Go on with the same command." in said and "--resume" not in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("closed", [">/dev/full", ">&-", "2>/dev/full", ">/dev/full 2>/dev/full", "| true"])
def test_a_full_or_closed_stdout_does_not_fail_the_work(closed: str, tmp_path: Path) -> None:
    for name in ("portrait.png", "speech.wav"):
        (tmp_path / name).write_text("not empty")
    command = [sys.executable, "-c", GENERATE, "generate", "--portrait", "portrait.png", "--audio", "speech.wav"]
    shell = f"set -o pipefail; {shlex.join([*command, '-o', 'out.mp4'])} {closed}"
    done = subprocess.run(["bash", "-c", shell], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (tmp_path / "out.mp4").read_text() == "video"
    assert done.returncode == 0, done.stderr
    notes = [line for line in done.stderr.splitlines() if "trained on" not in line]
    assert len(notes) == (closed == ">/dev/full")
    assert all(note.startswith("note: stdout could not be written (No space left on device)") for note in notes)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
@pytest.mark.parametrize(("closed", "status", "num_lines"), [(">/dev/full", 1, 1), ("| true", 0, 0)])
def test_a_result_that_cannot_be_written_is_an_error(closed: str, status: int, num_lines: int) -> None:
    shell = f"set -o pipefail; {shlex.quote(sys.executable)} -m emotivetalk --version {closed}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert len(done.stderr.splitlines()) == num_lines

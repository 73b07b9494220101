"""The example notebook runs from top to bottom, and the README's Python runs as it is printed."""

import re
import shutil
import wave
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """A copy of the examples, since both write beside their inputs."""
    return Path(shutil.copytree(ROOT / "examples", tmp_path / "examples"))


def test_notebook_runs(examples: Path) -> None:
    notebook = nbformat.read(examples / "quickstart.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "clear the outputs before committing the notebook"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(examples)}}).execute()
    assert (examples / "happy.webp").stat().st_size > 10_000
    assert (examples / "track.webp").stat().st_size > 10_000


def test_python_of_the_readme_runs(
    examples: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(examples / "portrait.png", examples.parent)
    with wave.open(str(ROOT / "examples" / "hello.wav")) as speech:
        settings, second = speech.getparams(), speech.readframes(speech.getframerate())
    with wave.open(str(examples / "hello.wav"), "wb") as speech:
        speech.setparams(settings)
        speech.writeframes(second)
    monkeypatch.chdir(examples.parent)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert "256, 256, 3" in capsys.readouterr().out

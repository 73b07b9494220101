"""The client is light, and can be installed without the rest of the project."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "diffusers", "ray", "av", "cv2", "numpy", "fastapi", "sqlalchemy")
OURS = ("media", "models", "actors", "corpus", "training", "evaluation")
LOADED = f"""
import sys
from emotivetalk import Client
import emotivetalk.client.over_http, emotivetalk.client.over_grpc
Client(), Client(protocol="grpc")
print([name for name in {(*HEAVY, *(f"emotivetalk.{name}" for name in OURS))!r} if name in sys.modules])
"""
USED = """
import emotivetalk
from emotivetalk import EMOTIONS, Client, InputError
try:
    Client().create("none.png", "none.wav", emotion="happy:0.8", seed=3)
except InputError as error:
    print(error.code)
try:
    emotivetalk.EmotiveTalkPipeline
except ImportError as error:
    print(error)
"""


def test_the_client_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_the_client_is_installed_alone(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHON": sys.executable}
    subprocess.run([ROOT / "scripts/build_client.sh", tmp_path], check=True, timeout=300, env=environment)
    [wheel] = tmp_path.glob("emotivetalk_client-*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True, timeout=300)
    for program, expected in ((LOADED, "[]"), (USED, "image_missing\nemotivetalk-client has no EmotiveTalkPipeline")):
        done = subprocess.run(
            [python, "-c", program], capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip().startswith(expected)

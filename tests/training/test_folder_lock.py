import subprocess
import sys
from pathlib import Path

import pytest

from emotivetalk.errors import InputError, OutputError
from emotivetalk.training.run.folder_lock import claimed


def test_a_folder_is_locked_until_its_process_ends(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    holding = "import sys, time\nfrom pathlib import Path\nfrom emotivetalk.training.run.folder_lock import claimed\n"
    holding += "with claimed(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", holding, str(folder)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="another process is training in") as raised, claimed(folder):
            pass
        assert raised.value.code == "run_in_use"
        other.kill()  # without clean-up
    for _ in range(2):
        with claimed(folder):
            assert folder.is_dir()


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file/run cannot be written") as raised, claimed(tmp_path / "file" / "run"):
        pass
    assert raised.value.code == "run_unwritable"

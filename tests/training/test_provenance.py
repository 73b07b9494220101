import json
from pathlib import Path

import pytest

from media.errors import InputError
from training.provenance import record_training


def test_stages_are_added_and_the_rest_stays(tmp_path: Path) -> None:
    file = tmp_path / "provenance.json"
    file.write_text('{"trained_on": "avatars"}', encoding="utf-8")
    record_training(tmp_path, "autoencoder", {"steps": 1}, {"psnr": 20.0})
    record_training(tmp_path, "vaid", {"steps": 2}, {})
    record_training(tmp_path, "autoencoder", {"steps": 3}, {"psnr": 30.0})
    record = json.loads(file.read_text(encoding="utf-8"))
    assert record["trained_on"] == "avatars"
    assert record["stages"]["autoencoder"]["config"] == {"steps": 3}
    assert record["stages"]["autoencoder"]["metrics"] == {"psnr": 30.0}
    assert record["stages"].keys() == {"autoencoder", "vaid"}
    assert [path.name for path in tmp_path.iterdir()] == ["provenance.json"]


@pytest.mark.parametrize("text", ["[]", "{"])
def test_a_broken_file_is_not_overwritten(tmp_path: Path, text: str) -> None:
    (tmp_path / "provenance.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="holds no JSON object"):
        record_training(tmp_path, "vaid", {}, {})
    assert (tmp_path / "provenance.json").read_text(encoding="utf-8") == text

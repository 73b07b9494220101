import json
from pathlib import Path

import pytest

from emotivetalk.errors import InputError
from emotivetalk.training.checkpoints.provenance import record_training


def test_stages_are_added_and_other_entries_kept(tmp_path: Path) -> None:
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


def test_the_initial_weights_of_a_stage_are_recorded(tmp_path: Path) -> None:
    pictures, video = tmp_path / "pictures", tmp_path / "video"
    pictures.mkdir()
    video.mkdir()
    record_training(pictures, "ethd", {"steps": 1}, {"error": 0.4})
    settings = {"steps": 2, "stage": {"initial": str(pictures)}}
    record_training(video, "ethd", settings, {"error": 0.3})
    entry = json.loads((video / "provenance.json").read_text())["stages"]["ethd"]
    assert entry["initial"] == json.loads((pictures / "provenance.json").read_text())["stages"]["ethd"]

    longer = {"steps": 3, "stage": {"initial": str(video)}}
    for _ in range(2):  # recorded again when a finished run is resumed
        record_training(video, "ethd", longer, {"error": 0.2})
        again = json.loads((video / "provenance.json").read_text())["stages"]["ethd"]
        assert again["config"] == longer
        assert again["initial"] == entry
    record_training(video, "ethd", {"stage": {"initial": str(tmp_path)}}, {})
    assert "initial" not in json.loads((video / "provenance.json").read_text())["stages"]["ethd"]


@pytest.mark.parametrize("text", ["[]", "{"])
def test_a_broken_file_is_not_overwritten(tmp_path: Path, text: str) -> None:
    (tmp_path / "provenance.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="holds no JSON object"):
        record_training(tmp_path, "vaid", {}, {})
    assert (tmp_path / "provenance.json").read_text(encoding="utf-8") == text

"""Trained ablations at debug size: one command trains the changed stages and measures the result."""

import json
from pathlib import Path

import pytest
import torch

from emotivetalk.cli import run
from emotivetalk.errors import InputError
from emotivetalk.evaluation.ablations import ABLATIONS, control_of, find_ablation
from emotivetalk.evaluation.reader import Reader
from emotivetalk.models.ethd import ETHD
from emotivetalk.models.vaid import VAID
from emotivetalk.training.ablation import train_ablation
from emotivetalk.training.run.config import load_config
from tests.training import debug

CONFIGS = Path(__file__).resolve().parents[2] / "train_configs"
TRAINED = [ablation.name for ablation in ABLATIONS if ablation.trains]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ablation")
    debug.write_corpus(folder / "corpus")
    debug.write_checkpoint(folder / "base")
    torch.manual_seed(1)
    Reader((16, 32, 32), 32).save_pretrained(folder / "reader")
    return folder


def trained(name: str, workplace: Path, folder: Path) -> Path:
    made = train_ablation(
        find_ablation(name),
        workplace / "base",
        folder,
        workplace / "corpus",
        "debug",
        ["steps=2", "validate_every=null"],
    )
    assert made is not None
    return made


@pytest.mark.parametrize("size", ["starter", "debug"])
@pytest.mark.parametrize("name", TRAINED)
def test_its_overrides_fit_the_configs(name, size):
    for lesson in find_ablation(name).trains:
        overrides = [override.format(folder="somewhere") for override in (*lesson.change, *lesson.always)]
        changed = load_config(CONFIGS / f"{lesson.stage}_{size}.yaml", overrides)
        assert changed != load_config(CONFIGS / f"{lesson.stage}_{size}.yaml", overrides[len(lesson.change) :])


@pytest.mark.parametrize("name", TRAINED)
def test_the_control_is_trained_equally_without_the_change(name):
    ablation = find_ablation(name)
    control = control_of(ablation)
    assert [lesson.stage for lesson in control.trains] == [lesson.stage for lesson in ablation.trains]
    assert all(lesson.change and not other.change for lesson, other in zip(ablation.trains, control.trains))
    assert [lesson.always for lesson in control.trains] == [lesson.always for lesson in ablation.trains]
    assert control.disabled_part is None and control.figure_keys == ablation.figure_keys and control.name != name


def test_an_ablation_without_training_has_no_control():
    with pytest.raises(InputError, match="the checkpoint itself is its control"):
        control_of(find_ablation("no-edi"))


def test_without_the_push_loss_all_else_equals_the_base(workplace, tmp_path):
    made = trained("no-push-loss", workplace, tmp_path)
    settings = json.loads((tmp_path / "vaid" / "config.json").read_text())
    assert settings["stage"]["push_weight"] == 0
    before, after = (VAID.from_pretrained(folder / "vaid").state_dict() for folder in (workplace / "base", made))
    assert any(not torch.equal(before[name], after[name]) for name in before)
    one, other = (ETHD.from_pretrained(folder / "ethd").state_dict() for folder in (workplace / "base", made))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert trained("no-push-loss", workplace, tmp_path) == made  # nothing is left to train


def test_edi_has_separate_weights_after_both_stages(workplace, tmp_path):
    ethd = ETHD.from_pretrained(trained("separate-edi-weights", workplace, tmp_path) / "ethd")
    assert ethd.config["edi_shares_weights"] is False
    assert any(".edi.reference." in name for name in ethd.state_dict())
    assert (tmp_path / "images" / "ethd").is_dir()


def test_without_vaid_one_command_trains_and_measures(workplace, tmp_path, capsys):
    command = ["ablate", "no-vaid", str(workplace / "base"), "--corpus", str(workplace / "corpus"), "--size", "debug"]
    command += [
        "--training-corpus",
        str(workplace / "corpus"),
        "--reader",
        str(workplace / "reader"),
        "-o",
        str(tmp_path),
        "--slice",
        "--set",
        "steps=2",
    ]
    assert run([*command, "--set", "validate_every=null"]) == 0, capsys.readouterr().err
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["ablation"] == "no-vaid"
    assert {"mouth_r.held_out", "emotion.label"} <= set(report["kinds"]["avatars"]["figures"])
    ethd = ETHD.from_pretrained(tmp_path / "training" / "checkpoint" / "ethd")
    assert ethd.config["dim_lip"] == 16  # of the audio features

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from emotivetalk.errors import InputError
from emotivetalk.training.run import config as config_module
from emotivetalk.training.run.config import TrainConfig, load_config
from emotivetalk.training.stages.registry import STAGE_NAMES, stage_class
from emotivetalk.training.stages.stage import StageConfig


class Loss(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    laplacian: float = 1.0
    levels: int = 3


class DebugConfig(StageConfig):
    channels: int = 32
    loss: Loss = Loss()
    extra_loss: Loss | None = None


class DebugStage:
    config_class = DebugConfig


TEXT = """\
name: autoencoder
steps: 100
batch_size: 8
output: runs/debug
optimizer:
  learning_rate: 2e-3
stage:
  channels: 64
  loss: {levels: 2}
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(config_module, "stage_class", lambda name: DebugStage)
    file = tmp_path / "debug.yaml"
    file.write_text(TEXT, encoding="utf-8")
    return file


def test_a_config_is_read_and_cannot_be_changed(path: Path) -> None:
    config = load_config(path)
    assert config.optimizer.learning_rate == 0.002  # YAML 1.1 takes 2e-3 for a string
    assert config.stage == DebugConfig(channels=64, loss=Loss(levels=2))
    assert config.checkpoint_folder == Path("runs/debug/checkpoint")
    assert config.model_dump(mode="json")["stage"]["loss"]["levels"] == 2
    with pytest.raises(ValidationError):
        config.steps = 3


def test_overrides_replace_and_add(path: Path) -> None:
    overrides = ["steps=7", "optimizer.clip_norm=null", "stage.extra_loss.levels=5", "checkpoint=out/starter"]
    config = load_config(path, overrides)
    assert config.steps == 7
    assert config.optimizer.clip_norm is None
    assert config.optimizer.learning_rate == 0.002
    assert config.stage == DebugConfig(channels=64, loss=Loss(levels=2), extra_loss=Loss(levels=5))
    assert config.checkpoint_folder == Path("out/starter")


@pytest.mark.parametrize(
    ("override", "message", "remedy"),
    [
        ("optimizer.learning_rat=1", "optimizer.learning_rat is not a known key", "Did you mean learning_rate?"),
        ("stpes=1", "stpes is not a known key", "Did you mean steps?"),
        ("stage.chanels=1", "stage.chanels is not a known key", "Did you mean channels?"),
        ("stage.loss.laplacien=1", "stage.loss.laplacien is not a known key", "Did you mean laplacian?"),
        ("stage.extra_loss.level=1", "stage.extra_loss.level is not a known key", "Did you mean levels?"),
        ("stage.loss.qqq=1", "stage.loss.qqq is not a known key", "The keys of stage.loss are laplacian, levels."),
        ("name=autoencode", "name is 'autoencode', which is not a stage", "Did you mean autoencoder?"),
        ("steps=0", "steps is 0: input should be greater than or equal to 1", "Change steps."),
        ("stage.loss.levels=many", "stage.loss.levels is 'many': input should be a valid integer", "stage.loss.levels"),
        ("stage=3", "stage is 3: input should be a valid", "Change stage."),
        ("steps", "'steps' is not an override", "key.key=value"),
        ("steps.more=1", "sets a key inside steps, which is a value", "Override that key itself."),
        ("a=[", "the value of 'a=[' is not YAML", "Quote it."),
    ],
)
def test_errors_name_the_key_and_the_nearest_known_one(path: Path, override: str, message: str, remedy: str) -> None:
    with pytest.raises(InputError) as caught:
        load_config(path, [override])
    assert message in caught.value.message
    assert remedy in caught.value.remedy
    assert "\n" not in str(caught.value)


def test_all_errors_are_reported_at_once(path: Path) -> None:
    path.write_text("name: vaid\nstpes: 3\noutput: runs\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_config(path)
    assert all(part in str(caught.value) for part in ("steps is missing", "batch_size is missing", "stpes is not"))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "- 1\n", "a: [\n", "a: b: c\n"])
def test_a_file_without_a_mapping_is_refused(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_config(path)
    assert caught.value.code == "config_not_yaml"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml cannot be read: No such file"):
        load_config(tmp_path / "nowhere.yaml")


def test_unknown_stages_are_refused() -> None:
    with pytest.raises(ValueError, match="there is no stage 'toy'"):
        stage_class("toy")


@pytest.mark.parametrize("name", STAGE_NAMES)
def test_every_stage_has_its_class(name: str) -> None:
    assert stage_class(name).name == name
    assert issubclass(stage_class(name).config_class, StageConfig)


def test_every_config_in_train_configs_is_valid() -> None:
    for path in sorted((Path(__file__).parents[2] / "train_configs").glob("**/*.yaml")):
        assert isinstance(load_config(path), TrainConfig)

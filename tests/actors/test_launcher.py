"""cluster.yaml is valid for `ray up`, and the files and extras that it names exist."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "cluster.yaml").read_text()


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load(TEXT)


def test_ray_accepts_the_configuration(config: dict[str, Any]) -> None:
    prepared = prepare_config(config)
    validate_config(prepared)
    nodes = prepared["available_node_types"][prepared["head_node_type"]]
    assert nodes["min_workers"] == nodes["max_workers"] == len(config["provider"]["worker_ips"])


def test_the_files_that_it_names_exist() -> None:
    named = set(re.findall(r"(?:train|serve)_configs/\w+\.yaml|scripts/\w+\.sh", TEXT))
    assert len(named) == 3 and all((ROOT / name).is_file() for name in named)


def test_every_machine_installs_the_extras_for_serving_and_training(config: dict[str, Any]) -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (setup,) = config["setup_commands"]
    extras = setup.rpartition(" ")[2].split(",")
    assert {"text", "serve", "cluster", "train"} <= set(extras) <= set(known)


def test_ray_requires_the_token(config: dict[str, Any]) -> None:
    for role in ("head", "worker"):
        stop, start = config[f"{role}_start_ray_commands"]
        assert stop.endswith("ray stop") and "&& RAY_AUTH_MODE=token " in start
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"

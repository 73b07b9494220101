"""cluster.yaml and its commented parts for AWS and GCP against the schema of Ray's cluster launcher."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from emotivetalk.actors.serving.launch import CONFIGS, read_plan

TEXT = (Path(__file__).resolve().parents[2] / "cluster.yaml").read_text(encoding="utf-8")
REMOVED = ("provider", "auth", "min_workers", "max_workers", "initialization_commands")


def variant(name: str) -> dict[str, Any]:
    """What cluster.yaml becomes if a reader follows the commented instructions; "local" is the file as it is."""
    document = yaml.safe_load(TEXT)
    if name == "local":
        return document
    part = re.search(rf"^# ---- {name}.*?^(# provider:.*?)(?=^# ----|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert part is not None
    uncommented = yaml.safe_load(re.sub(r"^# ", "", part[1], flags=re.MULTILINE))
    assert set(REMOVED[:2]) | {"initialization_commands"} <= set(uncommented)
    kept = {key: value for key, value in document.items() if key not in REMOVED}
    assert not set(kept) & set(uncommented)
    return kept | uncommented


@pytest.mark.parametrize("name", ["local", "AWS", "GCP"])
def test_ray_accepts_it(name: str):
    document = variant(name)
    validate_config(prepare_config(document))
    with pytest.raises(ValidationError, match="max_worker"):
        validate_config(prepare_config({**document, "max_worker": 3}))


@pytest.mark.parametrize("name", ["AWS", "GCP"])
def test_its_node_types_are_consistent(name: str):
    document = variant(name)
    types = document["available_node_types"]
    assert document["head_node_type"] in types
    workers = {key: value for key, value in types.items() if key != document["head_node_type"]}
    assert sum(value["max_workers"] for value in workers.values()) == document["max_workers"]
    for value in workers.values():
        assert value["min_workers"] <= value["max_workers"]
    gateways = read_plan(CONFIGS / "cluster.yaml").options["gateway"]
    assert gateways["max_replicas_per_node"] == 1
    assert workers["gateways"]["min_workers"] == gateways["num_replicas"]
    machine = "InstanceType" if name == "AWS" else "machineType"
    assert len({value["node_config"][machine] for value in types.values()}) == 2

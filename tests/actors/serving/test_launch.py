"""Serve configurations are validated, anonymous access stays local, and `doctor` finds faults."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from emotivetalk.actors.serving.doctor import Verdict, examine
from emotivetalk.actors.serving.launch import CONFIGS, LaunchPlan, check_exposure, read_plan
from emotivetalk.errors import InputError


def local_document() -> dict:
    return yaml.safe_load((CONFIGS / "local.yaml").read_text())


def write(document: object, folder: Path) -> Path:
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_the_shipped_configurations_are_valid():
    plans = {name: read_plan(CONFIGS / f"{name}.yaml") for name in ("local", "gpu", "cluster")}
    assert set(plans["local"].options) == {"gateway", "director", "VAID", "ETHD", "decoder"}
    assert plans["local"].config.gateway.allow_anonymous
    assert not plans["cluster"].config.gateway.allow_anonymous
    for plan in plans.values():
        check_exposure(plan)


def test_a_misspelled_setting_is_named_with_a_suggestion(tmp_path):
    document = local_document()
    document["applications"][0]["args"]["director"]["lease_sec"] = 10
    with pytest.raises(InputError, match=r"director\.lease_sec.*Did you mean lease_s\?"):
        read_plan(write(document, tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: document.pop("applications"), "applications"),
        (
            lambda document: document["applications"].append({**document["applications"][0], "name": "b"}),
            "duplicate applications",
        ),
        (
            lambda document: document["applications"][0]["args"]["director"].update(slots=0),
            "greater than or equal to 1",
        ),
    ],
)
def test_an_invalid_configuration_is_refused(change, message, tmp_path):
    document = local_document()
    change(document)
    with pytest.raises(InputError, match=message):
        read_plan(write(document, tmp_path))


def test_a_missing_file_and_a_non_mapping_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_plan(tmp_path / "absent.yaml")
    with pytest.raises(InputError, match="not a mapping"):
        read_plan(write(["a"], tmp_path))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org"])
def test_anonymous_callers_from_other_machines_are_refused(host):
    plan = read_plan(CONFIGS / "local.yaml")
    with pytest.raises(InputError, match="allow_anonymous"):
        check_exposure(dataclasses.replace(plan, host=host))
    grpc = plan.config.grpc.model_copy(update={"host": host})
    with pytest.raises(InputError, match="allow_anonymous"):
        check_exposure(dataclasses.replace(plan, config=plan.config.model_copy(update={"grpc": grpc})))


def findings(plan: LaunchPlan, address: str | None = None) -> dict[str, list[tuple[Verdict, str]]]:
    found: dict[str, list[tuple[Verdict, str]]] = {}
    for finding in examine(plan, address):
        found.setdefault(finding.subject, []).append((finding.verdict, finding.message))
    return found


@pytest.fixture
def plan(tmp_path) -> LaunchPlan:
    plan = read_plan(CONFIGS / "local.yaml")
    return dataclasses.replace(plan, config=plan.config.model_copy(update={"data": tmp_path / "data"}))


def failures(found: dict) -> set[str]:
    return {subject for subject, all_of in found.items() if any(verdict is Verdict.FAILURE for verdict, _ in all_of)}


def test_doctor_finds_no_fault_in_the_local_configuration(plan, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    assert failures(findings(plan)) == set()


def test_doctor_finds_a_shutdown_shorter_than_a_call(plan):
    options = {**plan.options, "ETHD": {**plan.options["ETHD"], "graceful_shutdown_timeout_s": 20.0}}
    found = findings(dataclasses.replace(plan, options=options))
    assert failures(found) == {"shutdown"}
    assert "ETHD: 20 s" in found["shutdown"][0][1]


def test_doctor_finds_a_missing_checkpoint(plan, tmp_path):
    config = plan.config.model_copy(update={"checkpoint": tmp_path})
    assert failures(findings(dataclasses.replace(plan, config=config))) == {"checkpoint"}


def test_doctor_finds_stores_that_cannot_be_written(plan, tmp_path):
    (tmp_path / "file").write_text("")
    changes = {"artifacts": str(tmp_path / "file" / "below"), "jobs": f"sqlite:///{tmp_path}/file/below/jobs.sqlite"}
    found = findings(dataclasses.replace(plan, config=plan.config.model_copy(update=changes)))
    assert failures(found) == {"artifact store", "job store"}


def test_doctor_finds_a_cluster_without_authentication(plan, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    assert "ray" in failures(findings(plan, address="auto"))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert "ray" not in failures(findings(plan, address="auto"))


def test_doctor_finds_public_tokens_without_encryption(plan, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("alice: a-token-that-is-long-enough\n")
    tokens.chmod(0o644)
    config = plan.config
    changes = {
        "gateway": config.gateway.model_copy(update={"allow_anonymous": False, "tokens_file": tokens}),
        "grpc": config.grpc.model_copy(update={"host": "0.0.0.0"}),
    }
    found = findings(dataclasses.replace(plan, host="0.0.0.0", config=config.model_copy(update=changes)))
    warned = [message for verdict, message in found["exposure"] + found["tokens"] if verdict is Verdict.WARNING]
    assert any("HTTP on 0.0.0.0" in message for message in warned)
    assert any("gRPC on 0.0.0.0" in message for message in warned)
    assert any("chmod 600" in message for message in warned)

"""deploy/kuberay: manifests have only fields and values that KubeRay 1.7 knows, and agree with the shipped configurations.

kuberay_fields.yaml has the names, types and enumerations; scripts/derive_kuberay_fields.py says how it was made.
"""

from __future__ import annotations

import copy
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from emotivetalk.actors.serving.launch import CONFIGS, read_plan
from emotivetalk.cli import app

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "kuberay"
FIELDS = yaml.safe_load(Path(__file__).with_name("kuberay_fields.yaml").read_text(encoding="utf-8"))
API_VERSIONS = {
    "RayService": "ray.io/v1",
    "RayJob": "ray.io/v1",
    "RayCronJob": "ray.io/v1",
    "PodMonitor": "monitoring.coreos.com/v1",
}
PYTHON_TYPES = {"string": str, "boolean": bool, "integer": int, "number": (int, float), "quantity": (int, float, str)}

Document = dict[str, Any]


def faults(value: Any, fields: Any, place: str) -> Iterator[str]:
    """Yield what KubeRay would refuse in a manifest or a part of one."""
    if fields is None:
        if value:
            yield f"{place} is not described: run scripts/derive_kuberay_fields.py"
    elif isinstance(fields, str):
        if "|" in fields:
            if value not in fields.split("|"):
                yield f"{place} is {value!r}, not one of {fields}"
        elif not isinstance(value, PYTHON_TYPES[fields]) or (isinstance(value, bool) and fields != "boolean"):
            yield f"{place} is {value!r}, not of type {fields}"
    elif isinstance(fields, list):
        if not isinstance(value, list):
            yield f"{place} is not a list"
            return
        for number, item in enumerate(value):
            yield from faults(item, fields[0], f"{place}[{number}]")
    elif not isinstance(value, dict):
        yield f"{place} is not an object"
    elif "*" in fields:
        for name, item in value.items():
            yield from faults(item, fields["*"], f"{place}.{name}")
    else:
        known = {name.rstrip("!"): part for name, part in fields.items()}
        for name in sorted(name.rstrip("!") for name in fields if name.endswith("!")):
            if name not in value:
                yield f"{place}.{name} is missing"
        for name, item in value.items():
            if name in known:
                yield from faults(item, known[name], f"{place}.{name}")
            else:
                yield f"{place}.{name} is unknown"


def documents(name: str) -> list[Document]:
    return list(yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")))


MANIFESTS = {
    f"{path.stem}:{document['kind']}/{document['metadata']['name']}": document
    for path in sorted(FOLDER.glob("*.yaml"))
    for document in documents(path.name)
    if "kind" in document
}


def one(kind: str, name: str = "emotivetalk") -> Document:
    (found,) = [
        document for document in MANIFESTS.values() if document["kind"] == kind and document["metadata"]["name"] == name
    ]
    return found


def ray_specs() -> dict[str, Document]:
    """The specification of each Ray cluster."""
    return {
        "service": one("RayService")["spec"]["rayClusterConfig"],
        "render": one("RayJob", "emotivetalk-render")["spec"]["rayClusterSpec"],
        "train": one("RayJob", "emotivetalk-train")["spec"]["rayClusterSpec"],
        "nightly": one("RayCronJob", "emotivetalk-nightly")["spec"]["jobTemplate"]["rayClusterSpec"],
    }


def groups(spec: Document) -> list[Document]:
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def pods(spec: Document) -> list[Document]:
    return [group["template"]["spec"] for group in groups(spec)]


@pytest.mark.parametrize("name", MANIFESTS)
def test_each_field_is_known(name: str):
    document = MANIFESTS[name]
    assert document["apiVersion"] == API_VERSIONS.get(document["kind"], "v1")
    assert list(faults(document, FIELDS[document["kind"]], document["kind"])) == []


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("spec.rayClusterConfig.authOption", {"mode": "token"}, "authOption is unknown"),
        ("spec.rayClusterConfig.authOptions.mode", "tokens", "not one of disabled|token"),
        ("spec.rayClusterConfig.networkPolicy.mode", "Deny", "not one of DenyAll"),
        ("spec.upgradeStrategy.clusterUpgradeOptions.stepSizePercent", "20", "not of type integer"),
        ("spec.upgradeStrategy.clusterUpgradeOptions.gatewayClassName", None, "gatewayClassName is missing"),
        ("spec.rayClusterConfig.headGroupSpec.template.spec.container", [], "container is unknown"),
        ("spec.rayClusterConfig.headGroupSpec.rayStartParams.num-cpus", 0, "not of type string"),
        ("spec.rayClusterConfig.workerGroupSpecs", {}, "not a list"),
        ("spec.rayClusterConfig.historyServerOptions", {"collectorOptions": {}}, "not described"),
    ],
)
def test_a_fault_in_a_manifest_is_found(path: str, value: object, message: str):
    document = copy.deepcopy(one("RayService"))
    *parents, last = path.split(".")
    part = document
    for name in parents:
        part = part[name]
    if value is None:
        del part[last]
    else:
        part[last] = value
    (found,) = faults(document, FIELDS["RayService"], "RayService")
    assert message in found


def test_the_service_runs_the_shipped_configuration():
    embedded = yaml.safe_load(one("RayService")["spec"]["serveConfigV2"])
    assert embedded == yaml.safe_load((CONFIGS / "cluster.yaml").read_text(encoding="utf-8"))


def test_the_upgrade_keeps_the_operators_rules():
    """Rules of the operator that are not in the schema; it would report them in the RayService's status only."""
    spec = one("RayService")["spec"]
    options = spec["upgradeStrategy"]["clusterUpgradeOptions"]
    assert spec["upgradeStrategy"]["type"] == "NewClusterWithIncrementalUpgrade"
    assert spec["rayClusterConfig"]["enableInTreeAutoscaling"]
    assert 0 < options["stepSizePercent"] <= options["maxSurgePercent"] <= 100
    assert options["intervalSeconds"] > 0


@pytest.mark.parametrize("name", ["service", "render", "train", "nightly"])
def test_each_cluster_keeps_the_operators_rules(name: str):
    spec = ray_specs()[name]
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert f"\nray=={spec['rayVersion']}\n" in constraints  # token authentication needs it to be given
    assert spec["authOptions"]["mode"] == "token"
    assert spec["tlsOptions"]["enabled"]
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["maxReplicas"]
        assert re.fullmatch(r"[a-z0-9-]{1,63}", group["groupName"])
    for pod in pods(spec):
        assert pod.get("restartPolicy", "Never") == "Never"  # for autoscaler v2
        environment = {variable["name"] for variable in pod["containers"][0].get("env", [])}
        assert not any(one.startswith(("RAY_TLS", "RAY_USE_TLS", "RAY_AUTH", "RAY_REDIS")) for one in environment)
    policy = spec["networkPolicy"]
    for part in ("head", "worker"):
        rules = policy.get(part, {})
        if policy["mode"] == "DenyAll":
            assert any(port["port"] == 53 for rule in rules["egressRules"] for port in rule["ports"])
        else:
            assert "egressRules" not in rules


def test_names_leave_room_for_the_operators_suffixes():
    for document in MANIFESTS.values():
        limit = {"RayService": 47, "RayJob": 47, "RayCronJob": 36}.get(document["kind"], 63)
        name = document["metadata"]["name"]
        assert len(name) <= limit and re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)


def test_one_image_runs_everywhere():
    images = {pod["containers"][0]["image"] for spec in ray_specs().values() for pod in pods(spec)}
    assert len(images) == 1


def test_the_nightly_batch_is_the_batch_on_a_schedule():
    job, nightly = one("RayJob", "emotivetalk-render")["spec"], one("RayCronJob", "emotivetalk-nightly")["spec"]
    assert nightly["jobTemplate"]["rayClusterSpec"] == job["rayClusterSpec"]
    assert len(nightly["schedule"].split()) == 5


def test_the_batchs_configuration_is_valid(tmp_path: Path):
    text = one("ConfigMap", "emotivetalk-batch")["data"]["serve.yaml"]
    (tmp_path / "serve.yaml").write_text(text)
    plan = read_plan(tmp_path / "serve.yaml")
    head = ray_specs()["render"]["headGroupSpec"]
    assert '\\"jobs\\": 1' in head["rayStartParams"]["resources"]
    for name in ("gateway", "director"):  # SQLite is on the head's disk
        assert plan.options[name]["ray_actor_options"]["resources"] == {"jobs": 0.1}


@pytest.mark.parametrize("name", ["render", "nightly", "train"])
def test_the_commands_exist(name: str):
    if name == "train":
        script = one("ConfigMap", "emotivetalk-train")["data"]["train.sh"]
        line = script[script.index("exec ") + 5 :].replace("$resume", "--resume")
    elif name == "render":
        line = one("RayJob", "emotivetalk-render")["spec"]["entrypoint"]
    else:
        line = one("RayCronJob", "emotivetalk-nightly")["spec"]["jobTemplate"]["entrypoint"]
    program, command, *arguments = shlex.split(line)
    assert program == "emotivetalk"
    group: Any = typer.main.get_command(app)
    context = group.make_context("emotivetalk", [command, *arguments])
    group.get_command(context, command).make_context(command, arguments)  # raises for an unknown option


@pytest.mark.parametrize("name", ["service", "render"])
def test_every_path_of_the_configuration_is_mounted(name: str):
    text = {
        "service": one("RayService")["spec"]["serveConfigV2"],
        "render": one("ConfigMap", "emotivetalk-batch")["data"]["serve.yaml"],
    }[name]
    head, *workers = pods(ray_specs()[name])
    for path in set(re.findall(r"(?:: |/{3})(/[a-z/.]+)", text)) - {"/"}:
        where = [head] if "jobs" in path else [head, *workers]
        for pod in where:
            mounts = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]
            assert any(Path(path).is_relative_to(mount) for mount in mounts), path


@pytest.mark.parametrize("name", ["service", "render", "train", "nightly"])
def test_what_pods_refer_to_exists(name: str):
    notes = (FOLDER / "README.md").read_text(encoding="utf-8")
    for pod in pods(ray_specs()[name]):
        container = pod["containers"][0]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
        for volume in volumes.values():
            if claim := volume.get("persistentVolumeClaim"):
                one("PersistentVolumeClaim", claim["claimName"])
            if configuration := volume.get("configMap"):
                one("ConfigMap", configuration["name"])
        secrets = re.findall(r"'secret(?:KeyRef)?': {'[^}]*?(?:name|secretName)': '([^']+)'", str([pod, volumes]))
        assert all(secret in notes for secret in secrets)
    assert all(secret in notes for secret in re.findall(r"'secretName': '([^']+)'", str(ray_specs()[name])))


@pytest.mark.parametrize("name", ["service", "render"])
def test_the_replicas_fit_the_pods(name: str):
    """All replicas at their maximum have CPUs and GPUs on the workers at their maximum, and each fits a pod."""
    if name == "service":
        plan = read_plan(CONFIGS / "cluster.yaml")
        options = list(plan.options.values())
    else:
        document = yaml.safe_load(one("ConfigMap", "emotivetalk-batch")["data"]["serve.yaml"])
        options = document["applications"][0]["deployments"]
    workers = ray_specs()[name]["workerGroupSpecs"]
    limits = [group["template"]["spec"]["containers"][0]["resources"]["limits"] for group in workers]
    for option, resource in (("num_cpus", "cpu"), ("num_gpus", "nvidia.com/gpu")):
        needs = [one["ray_actor_options"].get(option, 0) for one in options]
        counts = [one.get("num_replicas") or one["autoscaling_config"]["max_replicas"] for one in options]
        sizes = [float(limit.get(resource, 0)) for limit in limits]
        assert max(needs) <= max(sizes)
        available = sum(group["maxReplicas"] * size for group, size in zip(workers, sizes, strict=True))
        assert sum(need * count for need, count in zip(needs, counts, strict=True)) <= available


def test_prometheus_finds_the_ports():
    named = {
        port["name"] for spec in ray_specs().values() for pod in pods(spec) for port in pod["containers"][0]["ports"]
    }
    monitors = [document for document in MANIFESTS.values() if document["kind"] == "PodMonitor"]
    assert len(monitors) == 3
    for monitor in monitors:
        assert {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]} <= named


def test_the_operator_gets_the_gates_that_the_manifests_need():
    values = yaml.safe_load((FOLDER / "operator-values.yaml").read_text(encoding="utf-8"))
    on = {gate["name"] for gate in values["featureGates"] if gate["enabled"]}
    assert {"RayServiceIncrementalUpgrade", "RayCronJob", "RayClusterMTLS", "RayClusterNetworkPolicy"} <= on

#!/usr/bin/env python
"""Derive tests/deploy/kuberay_fields.yaml: names, types and enumerations of the fields that our manifests may have.

    git clone --branch v1.7.0 https://github.com/ray-project/kuberay /tmp/kuberay
    python scripts/derive_kuberay_fields.py /tmp/kuberay/ray-operator/config/crd/bases/*.yaml \
        /tmp/prometheus-operator/example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml

An object that some manifest has keeps all its field names. What no manifest has is null; a test then says "not described", and this
script must run again. So it must for another version of KubeRay.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
MANIFESTS = ROOT / "deploy" / "kuberay"
OUTPUT = ROOT / "tests" / "deploy" / "kuberay_fields.yaml"
HEAD = """\
# Made by scripts/derive_kuberay_fields.py from the CRDs of KubeRay 1.7.0 (ray.io/v1) and of prometheus-operator 0.93.0: names,
# types and enumerations. "!" marks a required field, "*" any key, [type] a list, "A|B" an enumeration, null what is not described.
"""

Schema = dict[str, Any]
_shared: dict[str, Any] = {}  # equal parts are one object, which YAML writes once


def reduced(schema: Schema, values: list[Any]) -> Any:
    """Return the part of a CRD's schema that describes these values of the manifests, in the table's notation."""
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    if "enum" in schema:
        return "|".join(schema["enum"])
    kind = schema["type"]
    if kind == "array":
        return _share([reduced(schema["items"], [item for value in values for item in value])])
    if kind != "object":
        return kind
    if "properties" not in schema:
        of = schema.get("additionalProperties", {"type": "string"})
        return _share({"*": reduced(of, [one for value in values for one in value.values()])})
    if not values:
        return None
    required = schema.get("required", ())
    return _share(
        {
            name + "!" * (name in required): reduced(field, [value[name] for value in values if name in value])
            for name, field in sorted(schema["properties"].items())
        }
    )


def _share(part: Any) -> Any:
    return _shared.setdefault(json.dumps(part, sort_keys=True), part)


def version_of(crd: Schema, name: str) -> Schema:
    """Return the schema of one version of a custom resource."""
    return next(one for one in crd["spec"]["versions"] if one["name"] == name)["schema"]["openAPIV3Schema"]


def main() -> None:
    """Write the table of the CRDs that are named on the command line."""
    crds = [yaml.safe_load(Path(path).read_text(encoding="utf-8")) for path in sys.argv[1:]]
    schemas = {crd["spec"]["names"]["kind"]: version_of(crd, "v1") for crd in crds}
    pod = schemas["RayService"]["properties"]["spec"]["properties"]
    head = pod["rayClusterConfig"]["properties"]["headGroupSpec"]["properties"]
    volumes = head["template"]["properties"]["spec"]["properties"]["volumes"]["items"]["properties"]
    any_object = {"type": "object", "additionalProperties": {"type": "string"}}
    # Kinds of Kubernetes itself, as far as the CRDs embed them.
    schemas["Service"] = pod["serveService"]
    schemas["PersistentVolumeClaim"] = {"type": "object", "properties": dict(head["template"]["properties"])}
    claim = volumes["ephemeral"]["properties"]["volumeClaimTemplate"]["properties"]["spec"]
    schemas["PersistentVolumeClaim"]["properties"] = {"spec": claim}
    schemas["ConfigMap"] = {"type": "object", "properties": {"data": any_object}}
    schemas["ServiceAccount"] = {"type": "object", "properties": {}}
    strings = {name: {"type": "string"} for name in ("name", "namespace")}
    metadata = {**strings, "labels": any_object, "annotations": any_object}
    documents = [
        document
        for path in sorted(MANIFESTS.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
        if "kind" in document
    ]
    kinds = {}
    for kind in sorted({document["kind"] for document in documents}):
        schema = {"type": "object", "properties": {**schemas[kind]["properties"]}}
        schema["properties"].pop("status", None)
        schema["properties"] |= {name: {"type": "string"} for name in ("apiVersion", "kind")}
        schema["properties"]["metadata"] = {"type": "object", "properties": metadata, "required": ["name"]}
        schema["required"] = ["apiVersion", "kind", "metadata"]
        kinds[kind] = reduced(schema, [document for document in documents if document["kind"] == kind])
    text = yaml.safe_dump(kinds, width=150, default_flow_style=None, sort_keys=False)
    OUTPUT.write_text(HEAD + text, encoding="utf-8")


if __name__ == "__main__":
    main()

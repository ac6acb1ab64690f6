# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifests for Kubernetes: their form, and what can be run of them."""

import pathlib
import re
import subprocess

import kubernetes.client
import pytest
import yaml

from lab import image

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
MANIFESTS = sorted((EXAMPLES / "kubernetes").glob("*.yaml"))
KINDS = {("v1", "ConfigMap"): "V1ConfigMap", ("v1", "Service"): "V1Service",
         ("apps/v1", "Deployment"): "V1Deployment",
         ("apps/v1", "StatefulSet"): "V1StatefulSet"}


def documents():
    return [(path.name, document) for path in MANIFESTS
            if path.name != "kustomization.yaml"
            for document in yaml.safe_load_all(path.read_text())]


def check(value, type_name, where):
    """Holds value against the type of Kubernetes' own OpenAPI description."""
    container = re.fullmatch(r"(list|dict)(?:\[|\(str, )(.*)[\])]", type_name)
    if container and container.group(1) == "list":
        assert isinstance(value, list), where
        for i, item in enumerate(value):
            check(item, container.group(2), f"{where}[{i}]")
    elif container:
        assert isinstance(value, dict), where
        for key, item in value.items():
            check(item, container.group(2), f"{where}.{key}")
    elif type_name in ("str", "int", "bool", "float"):
        assert type(value).__name__ == type_name, f"{where}: {value!r}"
    elif type_name == "object":  # "int or text", such as a port
        assert isinstance(value, (int, str)), where
    else:
        model = getattr(kubernetes.client, type_name)
        names = {json: name for name, json in model.attribute_map.items()}
        assert isinstance(value, dict), where
        for key, item in value.items():
            assert key in names, f"{where}: {type_name} has no {key}"
            check(item, model.openapi_types[names[key]], f"{where}.{key}")
        # The model refuses what lacks something that is required.
        model(**{names[key]: item for key, item in value.items()})


@pytest.mark.parametrize("name, document", documents(), ids=lambda value: (
    value if isinstance(value, str) else value["kind"]))
def test_manifest_is_as_kubernetes_describes_it(name, document):
    check(document, KINDS[document["apiVersion"], document["kind"]], name)


def test_the_manifest_check_can_fail():
    document = next(d for _, d in documents() if d["kind"] == "StatefulSet")
    spec = document["spec"]["template"]["spec"]
    for change in ({"enableServiceLink": False}, {"containers": [{}]},
                   {"terminationGracePeriodSeconds": "120"}):
        document["spec"]["template"]["spec"] = {**spec, **change}
        with pytest.raises((AssertionError, ValueError)):
            check(document, "V1StatefulSet", "changed")


def test_pods_have_the_least_rights():
    for _, document in documents():
        if document["kind"] not in ("Deployment", "StatefulSet"):
            continue
        spec = document["spec"]["template"]["spec"]
        assert spec["enableServiceLinks"] is False
        context = spec["containers"][0]["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"]["drop"] == ["ALL"]
        assert "privileged" not in context
        if document["kind"] == "StatefulSet":
            assert tuple(context["capabilities"]["add"]) == \
                image.CAPABILITIES
            assert spec["terminationGracePeriodSeconds"] > 100


def test_kustomization_names_the_manifests():
    path = EXAMPLES / "kubernetes" / "kustomization.yaml"
    assert sorted(yaml.safe_load(path.read_text())["resources"]) == \
        [p.name for p in MANIFESTS if p != path]


def test_haproxy_of_the_manifests_is_valid(tmp_path):
    text = next(d for _, d in documents()
                if "haproxy.cfg" in d.get("data", {}))["data"]["haproxy.cfg"]
    path = tmp_path / "haproxy.cfg"
    path.write_text(text)
    done = subprocess.run(["haproxy", "-c", "-f", path], text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr

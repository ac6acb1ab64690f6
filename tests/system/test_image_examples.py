# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples of how to run the image: their form, and what can be run."""

import os
import pathlib
import re
import smtplib
import subprocess
import time

import kubernetes.client
import pytest
import yaml

import lab
from lab import image, process

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


def test_compose_file_is_valid(tmp_path):
    text = (EXAMPLES / "compose.yaml").read_text()
    path = tmp_path / "compose.yaml"
    path.write_text(text)
    subprocess.run(["docker-compose", "-f", path, "config", "-q"], check=True)
    path.write_text(text.replace("read_only: true", "read_only: maybe"))
    assert subprocess.run(["docker-compose", "-f", path, "config", "-q"],
                          capture_output=True).returncode != 0


def test_haproxy_of_the_manifests_is_valid(tmp_path):
    text = next(d for _, d in documents()
                if "haproxy.cfg" in d.get("data", {}))["data"]["haproxy.cfg"]
    path = tmp_path / "haproxy.cfg"
    path.write_text(text)
    done = subprocess.run(["haproxy", "-c", "-f", path], text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def podman(lab_folder):
    podman = image.Podman(f"{lab_folder}/podman")
    podman.build(lab_folder, f"{lab_folder}/image-build.log")
    return podman


@pytest.fixture(scope="module")
def place(podman, lab_folder):
    """A network of our own with a Swift on it."""
    with image.network():
        swift = lab.Swift(f"{lab_folder}/example-swift")
        try:
            swift.start()
            yield swift
        finally:
            swift.stop()


def test_run_container_and_send_mail(podman, place, tmp_path):
    box = place.container()
    log = tmp_path / "log"
    volume = f"swiftdrop-test-{os.getpid()}"
    text = (EXAMPLES / "run-container.sh").read_text()
    script = tmp_path / "run-container.sh"
    # Names that are this test's, so that no other container is in the way.
    script.write_text(text.replace("swiftdrop-example", volume)
                      .replace("swiftdrop-spool", volume))
    running = process.start(
        ["bash", str(script)], log,
        env={**podman.environment, "AUTHURL": place.authurl,
             "IMAGE": image.IMAGE, "CONTAINER": box.name, "NETWORK": "host"})
    try:
        process.wait_until(lambda: process.connects(25), running,
                           "the example", log)
        done = subprocess.run(
            [EXAMPLES / "send-mail.sh", "127.0.0.1:25", "a@example.org"],
            text=True, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stdout + log.read_text()
        assert "S: 250 2.0.0 Ok: stored as " in done.stdout
        assert b"Subject: a mail from send-mail.sh" in box.only()[2]
        refused = subprocess.run(
            [EXAMPLES / "send-mail.sh", "127.0.0.1:25", "x@example.org"],
            text=True, capture_output=True, timeout=60)
        assert refused.returncode == 1
    finally:
        podman.run("rm", "--force", "--time=0", "--ignore", volume)
        process.stop(running)
        podman.run("volume", "rm", "--force", volume)


def test_environment_of_the_readme_works(podman, place, tmp_path, lab_folder):
    """Unchanged but for what only its author's network has."""
    text = (image.TREE / "image" / "README.md").read_text()
    block = re.search(r"<!-- example -->\n+```\n(.*?)```", text, re.S).group(1)
    environment = dict(line.split("=", 1) for line in block.splitlines()
                       if line and not line.startswith("#"))
    boxes = {}
    for account in ("PRODUCTION", "ACCEPTANCE"):
        boxes[account] = place.container()
        environment[f"SWIFTDROP_{account}_CONTAINER"] = boxes[account].name
    sink = lab.Sink(f"{lab_folder}/readme-sink")
    sink.start()
    options = place.options("")
    del options["container"]
    environment |= {f"SWIFTDROP_DEFAULT_{key.upper()}": value
                    for key, value in options.items()}
    for name in [name for name in environment if name.endswith("_FILE")]:
        del environment[name]
    environment["POSTFIX_relayhost"] = f"[127.0.0.1]:{sink.port}"
    environment["POSTFIX_disable_dns_lookups"] = "yes"
    try:
        with image.Container(podman, tmp_path, environment) as container:
            for recipient in ("invoices@example.com", "orders@example.com",
                              "invoices-test@example.com",
                              "sales@example.com", "office@example.com",
                              "postmaster@example.com"):
                with smtplib.SMTP("127.0.0.1", 25, timeout=60) as client:
                    client.sendmail("x@foreign.example", recipient,
                                    f"Subject: {recipient}\r\n\r\nx\r\n")
            assert len(boxes["PRODUCTION"].names()) == 2
            assert len(boxes["ACCEPTANCE"].names()) == 1
            assert "x-delete-at" in boxes["ACCEPTANCE"].only()[1]
            for _ in range(100):
                mails = b"".join(sink.mails())
                if mails.count(b"X-Rcpt-Args") >= 4:
                    break
                time.sleep(0.1)
            for target in (b"anna@example.net", b"bert@example.net",
                           b"clara@example.org", b"dora@example.org"):
                assert target in mails, container.text()
    finally:
        sink.stop()

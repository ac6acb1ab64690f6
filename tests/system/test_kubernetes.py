# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifests for Kubernetes: their form, and what can be run of them."""

import contextlib
import functools
import os
import pathlib
import re
import shutil
import smtplib
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import kubernetes.client
import pytest
import yaml

import lab
import test_readme
from lab import image, process

story = test_readme.story

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
KUBERNETES = EXAMPLES / "kubernetes"
OVERLAYS = ("direct", "haproxy", "rspamd", "site")
KINDS = {("v1", "ConfigMap"): "V1ConfigMap", ("v1", "Service"): "V1Service",
         ("apps/v1", "Deployment"): "V1Deployment",
         ("apps/v1", "StatefulSet"): "V1StatefulSet",
         ("networking.k8s.io/v1", "NetworkPolicy"): "V1NetworkPolicy",
         ("policy/v1", "PodDisruptionBudget"): "V1PodDisruptionBudget"}
WORKLOADS = ("Deployment", "StatefulSet")


def kustomize(folder):
    return subprocess.run(["kubectl", "kustomize", folder], text=True,
                          capture_output=True)


def for_kubectl_of_2021(folder):
    """Names folders as the kubectl of Debian 12 wants it (1.20, before 1.21).
    """
    for path in pathlib.Path(folder).rglob("kustomization.yaml"):
        changed = yaml.safe_load(path.read_text())
        named = changed["resources"]
        changed["bases"] = [name for name in named
                            if (path.parent / name).is_dir()]
        changed["resources"] = [name for name in named
                                if name not in changed["bases"]]
        path.write_text(yaml.safe_dump(changed))


def build(folder):
    """Returns what "kubectl apply -k" of a folder would send, as text."""
    done = kustomize(folder)
    if "must be a file" in done.stderr:
        with tempfile.TemporaryDirectory() as other:
            shutil.copytree(folder.parents[1], other, dirs_exist_ok=True)
            for_kubectl_of_2021(other)
            done = kustomize(f"{other}/overlays/{folder.name}")
    # An old form is warned of.
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@functools.cache
def built(overlay):
    return build(KUBERNETES / "overlays" / overlay)


def documents(overlay="haproxy"):
    return list(yaml.safe_load_all(built(overlay)))


def name_of(document):
    """Returns a manifest's name, without what was made of its content."""
    name = document["metadata"]["name"]
    return re.sub("-[0-9a-z]{10}$", "", name) \
        if document["kind"] == "ConfigMap" else name


def only(kind, name, overlay="haproxy"):
    """Returns the manifest of this kind and name."""
    found = [document for document in documents(overlay)
             if (document["kind"], name_of(document)) == (kind, name)]
    assert len(found) == 1, (kind, name)
    return found[0]


def container_of(kind, name):
    return only(kind, name)["spec"]["template"]["spec"]["containers"][0]


def port_number(container, port):
    """Returns the number of a port that may be given by its name."""
    numbers = {p["name"]: p["containerPort"] for p in container["ports"]}
    return numbers.get(port, port)


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


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_manifests_are_as_kubernetes_describes_them(overlay):
    kinds = set()
    for document in documents(overlay):
        kind = document["kind"]
        check(document, KINDS[document["apiVersion"], kind],
              f"{kind} {name_of(document)}")
        kinds.add(kind)
    assert kinds >= {"ConfigMap", "Service", "StatefulSet",
                     "PodDisruptionBudget"}


def test_the_manifest_check_can_fail():
    document = only("StatefulSet", "swiftdrop")
    spec = document["spec"]["template"]["spec"]
    for change in ({"enableServiceLink": False}, {"containers": [{}]},
                   {"terminationGracePeriodSeconds": "120"}):
        document["spec"]["template"]["spec"] = {**spec, **change}
        with pytest.raises((AssertionError, ValueError)):
            check(document, "V1StatefulSet", "changed")


def test_pods_have_the_least_rights():
    for document in documents():
        if document["kind"] not in WORKLOADS:
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


def chosen(selector):
    """Returns the names of the workloads whose pods a selector chooses."""
    assert list(selector) == ["matchLabels"]
    return {document["metadata"]["name"] for document in documents()
            if document["kind"] in WORKLOADS
            and selector["matchLabels"].items()
            <= document["spec"]["template"]["metadata"]["labels"].items()}


def test_haproxy_alone_reaches_the_port_that_believes_the_proxy_protocol():
    spec = only("NetworkPolicy", "swiftdrop")["spec"]
    assert chosen(spec["podSelector"]) == {"swiftdrop"}
    assert spec["policyTypes"] == ["Ingress"]
    rule, = spec["ingress"]
    peer, = rule["from"]
    assert list(peer) == ["podSelector"]  # so: in this namespace
    assert chosen(peer["podSelector"]) == {"smtp-haproxy"}
    port, = rule["ports"]
    assert port == {"protocol": "TCP", "port": "smtp"}
    assert port_number(container_of("StatefulSet", "swiftdrop"),
                       port["port"]) == 25


@pytest.mark.parametrize("kind, name", [("StatefulSet", "swiftdrop"),
                                        ("Deployment", "smtp-haproxy")])
def test_one_node_never_takes_all_pods(kind, name):
    """Neither when it dies nor when it is emptied."""
    spec = only(kind, name)["spec"]
    assert spec["replicas"] == 2
    constraint, = spec["template"]["spec"]["topologySpreadConstraints"]
    assert (constraint["maxSkew"], constraint["topologyKey"],
            constraint["whenUnsatisfiable"]) == (
                1, "kubernetes.io/hostname", "DoNotSchedule")
    assert chosen(constraint["labelSelector"]) == {name}
    budget = only("PodDisruptionBudget", name)["spec"]
    assert chosen(budget["selector"]) == {name}
    assert budget["maxUnavailable"] == 1


def test_kustomizations_name_all_files():
    folders = [KUBERNETES / "base", *(KUBERNETES / "overlays").iterdir()]
    assert sorted(path.name for path in folders[1:]) == list(OVERLAYS)
    for folder in folders:
        named = yaml.safe_load((folder / "kustomization.yaml").read_text())
        files = {name for name in named["resources"]
                 if name.endswith(".yaml")}
        for generator in named.get("configMapGenerator", ()):
            files |= set(generator.get("files", ()))
        assert files | {"kustomization.yaml"} == {
            path.name for path in folder.iterdir()}


def test_overlays_by_the_readme(story):
    """Without a cluster: what would be applied is built."""
    look, apply = story.take("examples/README.md",
                             "kubectl kustomize").commands()
    assert look.startswith("kubectl kustomize ")
    assert apply.startswith("kubectl apply -k ")
    for command in look, apply:
        assert "kind: StatefulSet" in build(
            image.TREE / command.split()[-1])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_named_is_there(overlay):
    """ConfigMaps and ports by their names, pods by their labels."""
    found = documents(overlay)
    configurations = {document["metadata"]["name"] for document in found
                      if document["kind"] == "ConfigMap"}
    pods = [document["spec"]["template"] for document in found
            if document["kind"] in WORKLOADS]
    for pod in pods:
        for container in pod["spec"]["containers"]:
            for source in container.get("envFrom", ()):
                assert source["configMapRef"]["name"] in configurations
        for volume in pod["spec"]["volumes"]:
            if "configMap" in volume:
                assert volume["configMap"]["name"] in configurations
    for document in found:
        if document["kind"] != "Service":
            continue
        pod, = [pod for pod in pods if document["spec"]["selector"].items()
                <= pod["metadata"]["labels"].items()]
        for port in document["spec"]["ports"]:
            assert port_number(pod["spec"]["containers"][0],
                               port.get("targetPort", port["port"])) in (
                [p["containerPort"]
                 for p in pod["spec"]["containers"][0]["ports"]])
    assert {document["metadata"].get("namespace") for document in found} == {
        "mail" if overlay == "site" else None}


def variables(overlay):
    return only("ConfigMap", "swiftdrop", overlay)["data"]


def test_overlays_differ_by_what_they_are_for():
    direct, haproxy, rspamd, site = map(variables, OVERLAYS)
    assert "UPSTREAM_PROXY_PROTOCOL" not in direct
    assert haproxy == {**direct, "UPSTREAM_PROXY_PROTOCOL": "haproxy"}
    address = only("Service", "rspamd", "rspamd")["spec"]["ports"][0]["port"]
    assert rspamd == {**haproxy,
                      "SWIFTDROP_SMTP_RSPAMD": f"http://rspamd:{address}"}
    assert site["MYHOSTNAME"] == "mx.example.org"
    assert site["SWIFTDROP_SMTP_RSPAMD"] == rspamd["SWIFTDROP_SMTP_RSPAMD"]
    workload = only("StatefulSet", "swiftdrop", "site")["spec"]["template"]
    assert workload["spec"]["containers"][0]["image"] == \
        f"registry.example.org/mail/swiftdrop:{version()}"


def version():
    return re.search("(?m)^VERSION = (.*)$",
                     (image.TREE / "Makefile").read_text())[1]


def test_a_changed_setting_is_another_name(tmp_path):
    """So a change reaches the pods, which read their variables once."""
    shutil.copytree(KUBERNETES, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "base" / "kustomization.yaml"
    text = path.read_text()
    assert "MYHOSTNAME=mail.example.org" in text
    path.write_text(text.replace("=mail.example.org", "=other.example.org"))
    changed = {(document["kind"], document["metadata"]["name"]): document
               for document in yaml.safe_load_all(
                   build(tmp_path / "overlays" / "direct"))}
    before = only("ConfigMap", "swiftdrop", "direct")["metadata"]["name"]
    assert ("ConfigMap", before) not in changed
    source, = changed["StatefulSet", "swiftdrop"]["spec"]["template"][
        "spec"]["containers"][0]["envFrom"]
    assert ("ConfigMap", source["configMapRef"]["name"]) in changed


def test_rspamd_of_the_overlay_is_set_up_as_the_other_example():
    configuration = only("ConfigMap", "rspamd", "rspamd")
    for name, text in configuration["data"].items():
        assert text in (EXAMPLES / "rspamd" / name).read_text()


# ---- the cluster ------------------------------------------------------------

NAMESPACE = "mail"
SERVICE = f"swiftdrop.{NAMESPACE}.svc.cluster.local"
PODS = {"swiftdrop-0": "10.244.1.5", "swiftdrop-1": "10.244.2.7"}
HAPROXY = "10.244.0.9"
NAME_SERVER = "10.96.0.10"
# As the kubelet writes it for a pod.
RESOLV_CONF = f"""search {NAMESPACE}.svc.cluster.local svc.cluster.local \
cluster.local
nameserver {NAME_SERVER}
options ndots:5
"""


class Cluster:
    """What a cluster would give the manifests, on the network we are on.

    All addresses are the loopback's, and one container of the image, with the
    environment of the manifest, is both pods.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir()
        for address in (NAME_SERVER, HAPROXY, *PODS.values()):
            subprocess.run(["ip", "address", "add", f"{address}/32", "dev",
                            "lo"], check=True)
        (self.folder / "resolv.conf").write_text(RESOLV_CONF)

    @contextlib.contextmanager
    def name_server(self, pods):
        """Answers as CoreDNS does for a headless service: to full names."""
        records = [argument for pod, address in pods.items() for argument in (
            f"--srv-host=_smtp._tcp.{SERVICE},{pod}.{SERVICE},25,"
            f"0,{100 // len(pods)}",
            f"--host-record={pod}.{SERVICE},{address}")]
        log = self.folder / "dnsmasq.log"
        running = process.start(
            ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null",
             "--pid-file=", "--user=root", "--no-resolv", "--no-hosts",
             f"--listen-address={NAME_SERVER}", "--bind-interfaces",
             # NXDOMAIN for what is not below.
             "--address=/#/", "--log-facility=-", *records], log)
        try:
            process.wait_until(self._serves_names, running, "dnsmasq", log)
            yield
        finally:
            process.stop(running)

    @staticmethod
    def _serves_names():
        with socket.socket() as probe:  # TCP, opened with the UDP port
            return probe.connect_ex((NAME_SERVER, 53)) == 0

    @contextlib.contextmanager
    def haproxy(self, *changes):
        """Runs HAProxy of the manifest; yields what it asks for its servers.

        changes are pairs of old and new text of its configuration.
        """
        text = only("ConfigMap", "smtp-haproxy")["data"]["haproxy.cfg"]
        for old, new in (("inter 30s", "inter 100ms"), *changes):
            assert old in text
            text = text.replace(old, new)
        control = self.folder / "control"
        control.unlink(missing_ok=True)
        configuration = self.folder / "haproxy.cfg"
        configuration.write_text(f"global\n    stats socket {control}\n{text}")
        log = self.folder / "haproxy.log"
        running = process.start(
            ["unshare", "--mount", "sh", "-e", "-c",
             'mount --bind "$1" /etc/resolv.conf\n'
             'exec haproxy -db -f "$2"', "sh",
             self.folder / "resolv.conf", configuration], log,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                 **haproxy_environment()})
        try:
            process.wait_until(control.exists, running, "HAProxy", log)
            yield lambda: servers(control)
        finally:
            process.stop(running)


def haproxy_environment():
    """Returns the variables of HAProxy's container, in our namespace."""
    values = {"metadata.namespace": NAMESPACE}
    return {variable["name"]: values[
        variable["valueFrom"]["fieldRef"]["fieldPath"]]
        for variable in container_of("Deployment", "smtp-haproxy").get(
            "env", ())}


def servers(control):
    """Returns the addresses and ports of the servers that HAProxy knows."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(control))
        client.sendall(b"show servers state swiftdrop\n")
        text = client.makefile().read()
    _, header, *lines = text.splitlines()
    names = header.removeprefix("# ").split()
    found = [dict(zip(names, line.split())) for line in lines if line]
    return {(entry["srv_addr"], int(entry["srv_port"])) for entry in found
            if entry["srv_addr"] != "-"}


def ready():
    """Tells whether the readiness probe of HAProxy's pod would be content."""
    container = container_of("Deployment", "smtp-haproxy")
    probe = container["readinessProbe"]["httpGet"]
    port = port_number(container, probe["port"])
    try:
        with urllib.request.urlopen(
                f"http://{HAPROXY}:{port}{probe['path']}", timeout=60):
            return True
    except urllib.error.HTTPError as error:
        assert error.code == 503
        return False


def eventually(check, seconds=30):
    """Returns check()'s first true result."""
    deadline = time.monotonic() + seconds
    while not (result := check()):
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.05)
    return result


@pytest.fixture(scope="module")
def swift(podman, lab_folder):
    """A Swift on a network of our own."""
    with image.network():
        swift = lab.Swift(f"{lab_folder}/cluster-swift")
        try:
            swift.start()
            yield swift
        finally:
            swift.stop()


@pytest.fixture(scope="module")
def cluster(swift, lab_folder):
    return Cluster(f"{lab_folder}/cluster")


@pytest.fixture(scope="module")
def pods(podman, swift, cluster, authority):
    """The swiftdrop pods, as the manifest has them but for their Swift."""
    box = swift.container()
    environment = dict(only("ConfigMap", "swiftdrop")["data"])
    for name in list(environment):
        if name.startswith("SWIFTDROP_DEFAULT_"):
            del environment[name]
        elif name.endswith("_CONTAINER"):
            environment[name] = box.name
    options = swift.options(box.name)
    del options["container"]
    environment |= {f"SWIFTDROP_DEFAULT_{key.upper()}": value
                    for key, value in options.items()}
    environment["POSTFIX_disable_dns_lookups"] = "yes"
    tls = [f"--volume={path}:/secrets/tls/tls.{path[-3:]}:ro"
           for path in authority.issue("pods")]
    with image.Container(podman, cluster.folder, environment, *tls) as pods:
        pods.box = box
        yield pods
        print(pods.text())


def played(box, name):
    """A pod of the overlay direct as podman can play it, with its ConfigMap.

    Podman 4.3 knows no StatefulSet, no probes without nc(1) and no ports beside
    the host's network, and hands the files of a Secret over undecoded.
    """
    configuration = only("ConfigMap", "swiftdrop", "direct")
    data = configuration["data"]
    for key in list(data):
        if key.startswith(("SWIFTDROP_DEFAULT_", "TLS_")):
            del data[key]
        elif key.endswith("_CONTAINER"):
            data[key] = box.name
    data |= {f"SWIFTDROP_DEFAULT_{key.upper()}": value
             for key, value in box.options().items() if key != "container"}
    data["POSTFIX_disable_dns_lookups"] = "yes"
    manifest = only("StatefulSet", "swiftdrop", "direct")["spec"]
    spec = manifest["template"]["spec"]
    container, = spec["containers"]
    for key in "ports", "startupProbe", "readinessProbe", "livenessProbe":
        del container[key]
    container["image"] = image.IMAGE
    kept = ("run", "spool")
    container["volumeMounts"] = [
        {**mount, "name": f"{name}-{mount['name']}"}
        for mount in container["volumeMounts"] if mount["name"] in kept]
    claim, = manifest["volumeClaimTemplates"]
    claim["metadata"]["name"] = f"{name}-spool"
    spec["volumes"] = [
        {**volume, "name": f"{name}-{volume['name']}"}
        for volume in spec["volumes"] if volume["name"] in kept] + [
            {"name": f"{name}-spool",
             "persistentVolumeClaim": {"claimName": f"{name}-spool"}}]
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": spec, "metadata": {
        "name": name, "labels": manifest["template"]["metadata"]["labels"]}}
    return [configuration, {"apiVersion": "v1",
                            "kind": "PersistentVolumeClaim", **claim}, pod]


def test_a_pod_played_by_podman_stores_mail(podman, swift, tmp_path):
    """With the rights, the mounts and the variables of the manifest."""
    box = swift.container()
    name = f"swiftdrop-test-{os.getpid()}"
    path = tmp_path / "pod.yaml"
    path.write_text(yaml.safe_dump_all(played(box, name)))
    try:
        podman.run("play", "kube", "--network=host", path)
        container = f"{name}-swiftdrop"
        eventually(lambda: podman.run(
            "exec", container, "/usr/sbin/swiftdrop-entry", "health",
            check=False).returncode == 0)
        with smtplib.SMTP("127.0.0.1", 25, timeout=60) as client:
            client.sendmail("someone@foreign.example", "orders@example.org",
                            "Subject: x\r\n\r\nx\r\n")
        assert len(box.names()) == 1
        shown = podman.run(
            "inspect", "-f", "{{.HostConfig.ReadonlyRootfs}} "
            "{{json .EffectiveCaps}}", container).stdout
        assert shown == ('true ["CAP_NET_BIND_SERVICE","CAP_SETGID",'
                         '"CAP_SETUID"]\n')
    finally:
        podman.run("play", "kube", "--down", path, check=False)
        podman.run("volume", "rm", "--force", f"{name}-spool", f"{name}-run",
                   check=False)


def test_haproxy_finds_both_pods_and_hands_mail_on(cluster, pods):
    """The name server knows full names alone, as CoreDNS does."""
    with cluster.name_server(PODS), cluster.haproxy() as found:
        eventually(ready)
        assert eventually(lambda: len(found()) == 2 and found()) == {
            (address, 25) for address in PODS.values()}
        for recipient in ("invoices@example.org", "orders@example.org"):
            with smtplib.SMTP(HAPROXY, 10025, timeout=60,
                              source_address=("192.0.2.1", 0)) as client:
                client.sendmail("someone@foreign.example", recipient,
                                "Subject: x\r\n\r\nx\r\n")
    objects = pods.box.objects()
    assert [headers["x-object-meta-client-addr"]
            for _, headers, _ in objects] == ["192.0.2.1"] * 2


def test_haproxy_is_ready_only_when_it_has_found_a_pod(cluster):
    with cluster.name_server({}), cluster.haproxy() as found:
        time.sleep(1)
        assert not ready()
        assert found() == set()


def smtpd_deaths(pods):
    return re.findall(r"postfix/smtpd\[\d+\]: fatal: .*", pods.text())


def test_probes_of_the_pods(pods):
    """Ready when mail would be taken; alive as long as the port is open."""
    container = container_of("StatefulSet", "swiftdrop")
    ready = container["readinessProbe"]["exec"]["command"]
    assert pods.execute(*ready).returncode == 0
    before = len(smtpd_deaths(pods))
    port = port_number(container, container["livenessProbe"]["tcpSocket"]
                       ["port"])
    for _ in range(50):
        for address in PODS.values():
            socket.create_connection((address, port)).close()
    assert pods.execute(*ready).returncode == 0
    assert smtpd_deaths(pods)[before:] == []


def test_haproxy_of_the_manifests_is_valid():
    path = KUBERNETES / "overlays" / "haproxy" / "haproxy.cfg"
    done = subprocess.run(["haproxy", "-c", "-f", path], text=True,
                          capture_output=True,
                          env={**os.environ, **haproxy_environment()})
    assert done.returncode == 0, done.stdout + done.stderr


def test_smtpchk_keeps_the_check_from_killing_smtpd(cluster, pods):
    """What the comment in the manifest says of a bare check.

    The last one here: master(8) throttles smtpd after it.
    """
    before = len(smtpd_deaths(pods))
    with cluster.name_server(PODS), cluster.haproxy() as found:
        eventually(lambda: len(found()) == 2)
        time.sleep(3)
        assert smtpd_deaths(pods)[before:] == []
    with cluster.name_server(PODS), cluster.haproxy(
            ("option smtpchk EHLO haproxy.invalid\n", "\n")):
        eventually(lambda: smtpd_deaths(pods)[before:])

# SPDX-License-Identifier: GPL-3.0-or-later
"""doc/OPERATING.md, chapter by chapter, on a host that is set up.

test_readme.py has the table of all blocks. The host has the Debian package
under a booted systemd, Postfix, and a Swift behind a Keystone.
"""

import json
import re
import smtplib
import shutil

import pytest

import lab
import test_readme
from helpers import readme
from lab import image, nspawn, process
from swiftq_box import wait_for
from test_readme_host import INI, KEYSTONE, Host, readme_block

story = test_readme.story

DOC = "doc/OPERATING.md"
TREE = Host.tree
MESSAGE_ID = "<20261128.7F@example.net>"
CONTAINER = "mail-production"
IMPORT = "/usr/local/bin/import-mail"


class Site(Host):
    """A host as doc/OPERATING.md takes it for granted."""

    def __init__(self, machine, folder, authority, package):
        super().__init__(machine, folder, authority)
        self.container = CONTAINER
        self.cloud.put_container(CONTAINER)
        shutil.copy(package, machine.path("/root/swiftdrop.deb"))
        self.run("dpkg -i /root/swiftdrop.deb")
        self.configure()
        self.run("systemctl start swiftdrop.socket")
        self.start_postfix(
            "".join(line for line in
                    readme_block("cp postfix/main.cf").splitlines(True)
                    if "# not under systemd" not in line),
            readme_block("domains "))
        self.write_reader("/etc/swiftq.ini", self.keystone.password)
        machine.write(IMPORT, "#!/bin/sh\ncat > /dev/null\n", 0o755)
        machine.write("/etc/default/swiftq", f"COMMAND={IMPORT}\n")

    def configure(self, secret=None, **account):
        """Writes swiftdrop.ini: by application credential if none is given."""
        if not account:
            account = self.credential(self.keystone.application_credential_id)
            secret = self.keystone.application_credential_secret
        self.write_ini(INI, account)
        self.machine.write("/etc/swiftdrop.secret", secret + "\n", 0o640,
                           "swiftdrop")

    def credential(self, id_):
        return {"authurl": f"https://{KEYSTONE}:5000/v3",
                "os_options_application_credential_id": id_,
                "os_options_application_credential_secret_file":
                    "swiftdrop.secret",
                "token_file": "/run/swiftdrop/token"}

    def write_ini(self, path, account):
        self.machine.write(path, lab.ini_text({
            "SMTP": {"reinject": "127.0.0.1:10026"},
            "PRODUCTION": {"recipients": "orders@example.org",
                           "container": CONTAINER, **account}}), 0o640,
            "swiftdrop")

    def write_reader(self, path, key):
        options = {**self.keystone.options(), "key": key}
        self.machine.write(path, lab.ini_text({"mail": {
            "container": CONTAINER, **options,
            "authurl": f"https://{KEYSTONE}:5000/v3"}}), 0o640)
        self.run(f"chgrp swiftq {path}")

    def reader(self, text, status=0):
        """Runs a block in which swiftq is what the chapter makes of it."""
        return self.run(block_of("swiftq()").text + text, status)

    def names(self, folder):
        return [entry["name"] for entry in self.cloud.get_container(
            CONTAINER, prefix=folder)[1]]

    def put(self, folder):
        """A message as if it had got there; returns its name."""
        self.number = getattr(self, "number", 1800000000) + 1
        name = f"{self.number}.M1P1R1.host,S=4"
        self.cloud.put_object(CONTAINER, f"{folder}/{name}", b"text")
        return name

    def empty(self):
        for entry in self.names(""):
            self.cloud.delete_object(CONTAINER, entry)

    def stores(self):
        """Whether a mail is stored just now."""
        return self.send()[0] == 250

    def send(self):
        with smtplib.SMTP("127.0.0.1", 25, timeout=120) as client:
            client.ehlo("client.example.net")
            client.mail("a@example.net")
            assert client.rcpt("orders@example.org")[0] == 250
            code, text = client.data(
                f"From: a@example.net\r\nMessage-ID: {MESSAGE_ID}\r\n\r\n"
                "A line.\r\n")
            return code, text.decode()


def block_of(start):
    return next(block for block in readme.blocks(DOC) if block.begins(start))


@pytest.fixture(scope="module")
def machine(lab_folder):
    with nspawn.Machine(f"{lab_folder}/operating", "mail") as booted, \
            booted.network():
        yield booted


@pytest.fixture(scope="module")
def made(machine, lab_folder, authority, package):
    site = Site(machine, f"{lab_folder}/operating", authority, package)
    try:
        yield site
    finally:
        site.close()


@pytest.fixture
def site(made):
    """The same with an empty container, and as it was set up."""
    made.empty()
    made.configure()
    yield made
    made.run("systemctl stop 'swiftq-*@*'; systemctl reset-failed")


@pytest.fixture
def take(story):
    return lambda start: story.take(DOC, start).text


@pytest.mark.slow
def test_a_complaint(site, take):
    take("swiftq()")
    code, text = site.send()
    assert code == 250
    name = text.split()[-1]
    for command in take("journalctl -t postfix/smtpd").splitlines():
        assert name in site.run(f"journalctl --sync; {command}"), command
    by_address, by_id, show, back = (
        command.replace("NAME", name)
        for command in take("swiftq find --to").splitlines())
    assert f"cur/{name} from=<a@example.net>" in site.reader(by_address)
    assert f"cur/{name} from=<a@example.net>" in site.reader(by_id)
    assert "client_addr: 127.0.0.1" in site.reader(show)
    assert MESSAGE_ID in site.run("cat complaint.eml")
    assert f"stored as {name}" in site.run(back) or \
        f"object={CONTAINER}/cur/{name}" in site.run(back)


@pytest.mark.slow
def test_a_backlog(site, take):
    assert site.stores()
    shown = site.reader(take("swiftq status"))
    assert re.search(r"cur +1 messages .* oldest ", shown)
    site.reader("swiftq take --output /dev/null")
    assert "too young" in site.reader(take("swiftq recover"))
    assert site.stores()
    name, = site.names("cur/")
    site.run(take("echo ACCOUNT=mail"))
    wait_for(lambda: site.names("done/") == [
        name.replace("cur/", "done/")], "the second worker takes it")
    units, journal = take("systemctl list-units").splitlines()
    assert "swiftq-run@mail-2.service" in site.run(units)
    assert "done " in site.run(f"journalctl --sync; {journal}")


@pytest.mark.slow
def test_what_failed_once_more(site, take):
    names = [site.put("failed") for _ in range(4)]
    shown = site.reader(take("swiftq find --since 7d"))
    assert [line.split()[0] for line in shown.splitlines()
            if line.startswith("failed/")] == [f"failed/{n}" for n in names]
    finish, one, all_ = take("swiftq finish --note").splitlines()
    site.reader(finish.replace("NAME", names[0]))
    assert site.names("done/") == [f"done/{names[0]}"]
    site.reader(one.replace("NAME", names[1]))
    assert len(site.names("retry/")) == 1
    site.reader(all_)
    assert [name.split("/")[2] for name in sorted(
        site.names("retry/"), key=lambda n: n.split("/")[2])] == names[1:]
    site.run("systemctl start swiftq-run@mail")
    wait_for(lambda: len(site.names("done/")) == 4, "all are done")


@pytest.mark.slow
def test_a_temp_url_key(site, take):
    """From the first slot to the second, and a mail at each step."""
    storage_url, _ = site.cloud.get_auth()
    site.cloud.post_container(
        CONTAINER, {"X-Container-Meta-Temp-URL-Key": "old"})
    site.configure("old", auth_version="tempurl", storage_url=storage_url,
                   temp_url_key_file="swiftdrop.secret")
    assert site.stores()
    site.machine.write(f"{TREE}/new.key", "a-new-one\n")
    post, install, check, wait, remove = take(
        "swift post mail-production -m").splitlines()
    site.run(post)
    assert site.stores()
    site.run(f"{install}\n{check}")
    assert site.check_unit() == "success" and site.stores()
    assert wait == "sleep 900"
    site.run(remove)
    assert site.stores()
    kept = site.cloud.head_container(CONTAINER)
    assert "x-container-meta-temp-url-key" not in kept
    assert kept["x-container-meta-temp-url-key-2"] == "a-new-one"

    # And a query that is made of it.
    account = storage_url.rpartition("/")[2]
    site.write_ini(INI, {
        "auth_version": "tempurl", "storage_url": storage_url,
        "temp_url_query_file": "swiftdrop.secret"})
    site.run(take("swift tempurl").replace("AUTH_test", account))
    assert site.check_unit() == "success" and site.stores()


@pytest.mark.slow
def test_an_application_credential(site, take):
    keystone = site.keystone
    id_, secret = another_credential(keystone)
    site.run("systemctl start swiftdrop-login")
    assert site.stores()
    site.machine.write(f"{TREE}/new.secret", secret + "\n")
    site.write_ini(f"{TREE}/new.ini", site.credential(id_))
    site.run(take("install -m 640 -g swiftdrop"))
    for unit in ("swiftdrop-check", "swiftdrop-login"):
        assert site.machine.show(unit, "Result") == "success"
    token = json.loads(site.run("cat /run/swiftdrop/token"))
    assert id_ in json.dumps(token)
    assert site.stores()


def another_credential(keystone):
    """Makes what "openstack application credential create" makes."""
    from keystoneauth1 import session
    from keystoneauth1.identity import v3
    asks = session.Session(v3.Password(
        f"http://127.0.0.1:{keystone.http_port}/v3", username=keystone.user,
        password=keystone.password, project_name=keystone.project,
        user_domain_name="Default", project_domain_name="Default"))
    made = asks.post(
        f"http://127.0.0.1:{keystone.http_port}/v3/users/"
        f"{asks.get_user_id()}/application_credentials",
        json={"application_credential": {"name": "another"}}
    ).json()["application_credential"]
    return made["id"], made["secret"]


@pytest.mark.slow
def test_the_readers_secret(site, take):
    site.run("systemctl start swiftq-run@mail")
    before = site.machine.show("swiftq-run@mail", "MainPID")
    site.write_reader(f"{TREE}/new.ini", site.keystone.password)
    site.run(take("install -m 640 -g swiftq"))
    assert site.machine.show("swiftq-run@mail", "MainPID") != before
    name = site.put("cur")
    wait_for(lambda: site.names("done/") == [f"done/{name}"], "it is done")


@pytest.mark.slow
def test_what_to_watch(site, take):
    site.run("mkdir -p /var/lib/prometheus/node-exporter")
    site.put("failed")
    site.configure("wrong", **site.credential("0" * 32))
    assert site.send()[0] == 451
    site.run("systemctl start swiftdrop-check", 1)
    shown = site.reader(take("systemctl --failed"))
    assert "swiftdrop-check.service" in shown
    assert re.search("(?m)^[1-9][0-9]*$", shown)
    assert f'swiftq_messages{{container="{CONTAINER}",folder="failed"}} 1' in \
        site.run("cat /var/lib/prometheus/node-exporter/mail.prom")


@pytest.mark.slow
def test_a_backup_and_a_lost_container(site, take):
    assert site.stores()
    name, = site.names("cur/")
    site.reader(take("swift download"))
    assert MESSAGE_ID in site.run(f"cat /var/backups/mail/{name}")
    envelope, *_ = site.run("cat /var/backups/envelopes.json").splitlines()
    assert json.loads(envelope)["envelope_to"] == ["orders@example.org"]

    site.empty()
    site.cloud.delete_container(CONTAINER)
    assert site.send() == (451, "4.3.5 Error: mail system configuration error")
    site.run(take("swift post mail-production"))
    assert site.check_unit() == "success" and site.stores()
    assert name in site.run(take("journalctl -t swiftdrop"))


@pytest.mark.slow
def test_upgrade_and_back(site, take):
    """The newer one is the same package under a higher version."""
    site.run(f"""
        cp /root/swiftdrop.deb {TREE}/swiftdrop_OLD.deb
        dpkg-deb -R /root/swiftdrop.deb /root/unpacked
        sed -i 's/^Version: .*/&+new/' /root/unpacked/DEBIAN/control
        dpkg-deb -b /root/unpacked {TREE}/swiftdrop_NEW.deb
        systemctl start swiftq-run@mail
    """)
    for start, is_new in (("apt-get install ./swiftdrop_NEW", True),
                          ("apt-get install -y --allow", False)):
        before = site.machine.show("swiftq-run@mail", "MainPID")
        site.run(take(start))
        version = site.run("dpkg-query -W -f '${Version}' swiftdrop")
        assert version.endswith("+new") == is_new
        assert site.machine.show("swiftq-run@mail", "MainPID") != before
        assert site.check_unit() == "success" and site.stores()


@pytest.mark.slow
def test_forwards_in_the_image(take, podman, tmp_path, lab_folder):
    with image.network():
        swift = lab.Swift(f"{lab_folder}/operating-image-swift")
        swift.start()
        try:
            forwards_in_the_image(take, podman, tmp_path, swift.container())
        finally:
            swift.stop()


def forwards_in_the_image(take, podman, tmp_path, box):
    settings = image.variables(
        {"A": {"recipients": "a@example.org", **box.options()}},
        ["a@example.org"], {"away@example.org": "jane@elsewhere.example"},
        POSTMASTER="boss@elsewhere.example",
        POSTFIX_relayhost=f"[127.0.0.1]:{process.free_port()}",
        POSTFIX_disable_dns_lookups="yes", POSTFIX_queue_run_delay="2s")
    volume = f"{tmp_path.name}-spool"
    container = image.Container(podman, tmp_path, settings, spool=volume)

    def run(text):
        return test_readme.shell(
            text.replace("NAME-spool", volume).replace("NAME", container.name),
            CONTAINERS_CONF=podman.environment["CONTAINERS_CONF"])

    logs, look, touch = (take(start) for start in (
        "podman logs", "spool=", "find $spool/deferred"))
    try:
        with container:
            with smtplib.SMTP("127.0.0.1", 25, timeout=60) as client:
                client.sendmail("a@elsewhere.example", "away@example.org",
                                "Subject: x\r\n\r\ntext\r\n")
            container.await_text("status=deferred")
            first = run(logs)
            assert "jane@elsewhere.example" in first
            queued = run(look).split()
            assert queued[-1] in first          # by its queue id
            run(look + touch)
            wait_for(lambda: run(logs).count("\n") > first.count("\n"),
                     "it is tried again", 60, 1)
    finally:
        podman.run("volume", "rm", "--force", volume)

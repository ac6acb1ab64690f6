# SPDX-License-Identifier: GPL-3.0-or-later
"""doc/ELSEWHERE.md: what other programs are told leads to a swiftdrop.ini,
which logs in to the real servers; and what swiftclient makes of a user."""

import inspect
import os
import re
import subprocess

import pytest
import swiftclient

import test_readme
from conftest import TREE
from helpers import program, readme

DOC = "doc/ELSEWHERE.md"
story = test_readme.story

# As Horizon has them for download, but for asking for the password.
PASSWORD = """#!/usr/bin/env bash
export OS_AUTH_URL={url}
export OS_PROJECT_ID={project_id}
export OS_PROJECT_NAME="mail"
export OS_USER_DOMAIN_NAME="Default"
if [ -z "$OS_USER_DOMAIN_NAME" ]; then unset OS_USER_DOMAIN_NAME; fi
export OS_PROJECT_DOMAIN_ID="default"
if [ -z "$OS_PROJECT_DOMAIN_ID" ]; then unset OS_PROJECT_DOMAIN_ID; fi
unset OS_TENANT_ID
unset OS_TENANT_NAME
export OS_USERNAME="mailer"
export OS_PASSWORD={password}
export OS_REGION_NAME="RegionOne"
if [ -z "$OS_REGION_NAME" ]; then unset OS_REGION_NAME; fi
export OS_INTERFACE=public
export OS_IDENTITY_API_VERSION=3
"""
CREDENTIAL = """#!/usr/bin/env bash
export OS_AUTH_TYPE=v3applicationcredential
export OS_AUTH_URL={url}
export OS_IDENTITY_API_VERSION=3
export OS_REGION_NAME="RegionOne"
export OS_INTERFACE=public
export OS_APPLICATION_CREDENTIAL_ID={application_credential_id}
export OS_APPLICATION_CREDENTIAL_SECRET={application_credential_secret}
"""
CREDENTIAL_BY_NAME = """
export OS_AUTH_URL={url} OS_USER_ID={user_id}
export OS_APPLICATION_CREDENTIAL_NAME=lab OS_CACERT=
export OS_APPLICATION_CREDENTIAL_SECRET={application_credential_secret}
"""
TENANT = """
export OS_AUTH_URL={url} OS_TENANT_NAME=mail OS_ENDPOINT_TYPE=internalURL
export OS_USERNAME=mailer OS_PASSWORD={password} OS_INTERFACE=internal
"""
VERSION_1 = """
export ST_AUTH={url} ST_USER=test:tester ST_KEY=testing
"""

CLOUD = """clouds:
  another:
    auth: {{auth_url: http://127.0.0.1:1/v3}}
  mycloud:
    auth:
      auth_url: {url}
      username: mailer
      project_name: mail
      user_domain_name: Default
      project_domain_name: Default
      project_id: null
      password: another
    region_name: RegionOne
    interface: [public, admin]
    identity_api_version: 3
    verify: false
"""
SECURE = """clouds:
  mycloud:
    auth:
      password: {password}
"""
CLOUD_CREDENTIAL = """clouds:
  mycloud:
    auth_type: v3applicationcredential
    auth:
      auth_url: {url}
      application_credential_id: {application_credential_id}
      application_credential_secret: {application_credential_secret}
    region_name: RegionOne
    interface: public
"""


class Tutor:
    """Runs the blocks of the document in a folder."""

    def __init__(self, folder, values):
        self.folder = folder
        self.values = values
        (folder / "bin").mkdir()
        (folder / "bin" / "swiftdrop").symlink_to(program.BINARY)

    def write(self, name, text):
        (self.folder / name).write_text(text.format(**self.values))

    def run(self, script):
        return subprocess.run(
            ["bash", "-euc", script], cwd=self.folder, text=True, check=True,
            stdout=subprocess.PIPE, timeout=60,
            env=program.environment(
                {"PATH": f"{self.folder}/bin:{os.environ['PATH']}"})).stdout

    def check(self, container, first, then):
        """Runs both blocks; the container is where the mail would go."""
        done = self.run(first + then.replace("container = mail",
                                             f"container = {container.name}"))
        assert done == f"ARCHIVE: ok, container={container.name}\n"
        ini = self.folder / "swiftdrop.ini"
        assert ini.stat().st_mode & 0o077 == 0
        shown = program.run("-c", ini, "config")
        assert shown.returncode == 0 and shown.stderr == ""
        return shown.stdout


@pytest.fixture
def tutor(keystone_swift, tmp_path):
    return Tutor(tmp_path, vars(keystone_swift.keystone) | {
        "password": keystone_swift.keystone.password})


def test_an_openrc(story, tutor, keystone_container, container):
    convert = story.take(DOC, "umask 077").text
    account = story.take(DOC, "cat >> ").text
    for openrc, more in (
            (PASSWORD, "os_options_region_name = RegionOne\n"),
            (CREDENTIAL, "os_options_endpoint_type = public\n"),
            (CREDENTIAL_BY_NAME,
             "os_options_application_credential_name = lab\n"),
            (TENANT, "os_options_project_name = mail\n")):
        tutor.write("openrc.sh", openrc)
        assert more in tutor.check(keystone_container,
                                   ". ./openrc.sh\n" + convert, account)
    tutor.values["url"] = container.swift.authurl
    tutor.write("openrc.sh", VERSION_1)
    assert "auth_version = 1\n" in tutor.check(
        container, ". ./openrc.sh\n" + convert, account)


def test_a_clouds_yaml(story, tutor, keystone_container):
    convert = story.take(DOC, "umask 077").text
    account = next(block.text for block in readme.blocks(DOC)
                   if block.begins("cat >> "))
    tutor.write("clouds.yaml", CLOUD_CREDENTIAL)
    tutor.check(keystone_container, convert, account)
    tutor.write("clouds.yaml", CLOUD)
    tutor.write("secure.yaml", SECURE)
    shown = tutor.check(
        keystone_container,
        convert.replace("clouds.yaml", "clouds.yaml secure.yaml"), account)
    assert "insecure = yes\n" in shown
    assert "os_options_endpoint_type = public\n" in shown


def test_arguments_of_swiftclient_that_are_keys(ini):
    """What the page names is one, and of the client's no other is."""
    text = (TREE / DOC).read_text()
    named = set(re.findall(r"`(\w+)`", re.search(
        r"arguments of `swiftclient.Connection`,(.*?)are keys", text, re.S)[1]))
    of_swiftclient = set(inspect.signature(
        swiftclient.Connection).parameters) - {"os_options"}
    assert named < of_swiftclient
    for name in of_swiftclient:
        done = program.run("-c", ini({"a": {"recipients": "*", name: "1"}}),
                           "config")
        assert ("unknown key" in done.stderr) == (name not in named), name


@pytest.mark.parametrize("user, options", (
    ("mail:mailer", {}), ("none:mailer", {"project_name": "mail"}),
    ("mail:mailer", {"tenant_name": "none"}),
    ("none:mailer", {"tenant_name": "mail"}),
    ("none:mailer", {}), ("mailer:mail", {}),
    ("mailer", {"tenant_name": "mail"})))
def test_a_user_is_taken_apart_as_swiftclient_does_it(
        user, options, keystone_swift, keystone_container, ini):
    """The client itself is asked; both log in, or neither does."""
    keystone = keystone_swift.keystone
    domains = {"user_domain_id": "default", "project_domain_id": "default"}
    try:
        swiftclient.Connection(
            authurl=keystone.url, user=user, key=keystone.password,
            auth_version="3", retries=0,
            os_options={**domains, **options}).head_account()
        good = True
    except swiftclient.ClientException:
        good = False
    path = ini({"a": {
        "recipients": "*", "container": keystone_container.name,
        "authurl": keystone.url, "user": user, "key": keystone.password,
        **{f"os_options_{name}": value
           for name, value in (domains | options).items()}}})
    done = program.run("-c", path, "check")
    assert done.returncode == (0 if good else 69), done.stdout


def test_an_account_without_a_project(keystone_swift, keystone_container, ini):
    """Keystone gives a token all the same; it leads nowhere."""
    path = ini({"a": {
        "recipients": "*", **keystone_container.options(),
        "os_options_project_name": ""}})
    done = program.run("-c", path, "check")
    assert done.returncode == 69
    assert "set os_options_project_name or os_options_project_id" in \
        done.stdout


def test_an_account_without_its_domain(keystone_swift, keystone_container,
                                       ini):
    options = keystone_container.options()
    del options["os_options_user_domain_name"]
    path = ini({"a": {"recipients": "*", **options, "user": "elsewhere"}})
    done = program.run("-c", path, "check")
    assert done.returncode == 69
    assert "a domain that is not set is default" in done.stdout

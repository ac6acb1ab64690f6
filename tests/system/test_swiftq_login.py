# SPDX-License-Identifier: GPL-3.0-or-later
"""How the readers log in: to a Keystone, and through TLS."""

from swiftq_box import Box, TakeMail

EX_UNAVAILABLE, EX_NOPERM, EX_CONFIG = 69, 77, 78


def test_swiftq_by_keystone(keystone_container, ini, tmp_path):
    box = Box(keystone_container, ini, tmp_path)
    name = box.put(b"by password")
    assert box.swiftq("take").stdout == b"by password"
    options = box.container.options()
    credential = box.swift.keystone.application_credential_options()
    path = ini({"box": {"authurl": options["authurl"],
                        "container": box.name, **credential}}, "ac.ini")
    box.swiftq("finish", name, "done", ini=path)
    assert box.where() == {"done": [name]}
    by_default = {k: v for k, v in options.items() if "domain" not in k}
    box.swiftq("list", ini=ini({"box": by_default}, "domain.ini"))
    path = ini({"box": {**options, "key": "wrong"}}, "wrong.ini")
    assert "Keystone" in box.swiftq("list", ini=path, status=EX_NOPERM).err
    path = ini({"box": {**options, "os_options_region_name": "None"}},
               "region.ini")
    assert "not found" in box.swiftq(
        "list", ini=path, status=EX_CONFIG).err


def test_take_mail_by_keystone(keystone_container, ini, tmp_path):
    box = Box(keystone_container, ini, tmp_path)
    name = box.put()
    TakeMail(box).run("true")
    assert box.where() == {"done": [name]}


def test_swiftq_by_tls(tls_container, ini, tmp_path):
    box = Box(tls_container, ini, tmp_path)
    name = box.put(b"by TLS")
    assert box.swiftq("take").stdout == b"by TLS"
    box.swiftq("finish", name, "done")
    options = box.container.options()
    del options["cacert"]
    path = ini({"box": {**options, "retries": "0"}}, "stranger.ini")
    assert "certificate" in box.swiftq("list", ini=path,
                                       status=EX_UNAVAILABLE).err
    options["insecure"] = "yes"
    box.swiftq("list", ini=ini({"box": options}, "insecure.ini"))
    box.connection.head_account()
    options["os_options_object_storage_url"] = \
        box.connection.url.replace("https:", "http:")
    assert "not https as authurl" in box.swiftq(
        "list", ini=ini({"box": options}, "plain.ini"), status=EX_CONFIG).err

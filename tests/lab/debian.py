# SPDX-License-Identifier: GPL-3.0-or-later
"""The Debian package, built from a copy of the tree."""

import glob
import os
import platform
import shutil
import subprocess

from .process import LabError

# Which one this is.
RELEASE = platform.freedesktop_os_release()["VERSION_CODENAME"]


def build(tree, folder):
    """Builds the package in folder/source; returns the path of the .deb."""
    source = f"{folder}/source"
    shutil.copytree(tree, source, ignore=shutil.ignore_patterns(
        ".git", "build", "swiftdrop", "__pycache__", ".pytest_cache",
        ".debhelper", "*.substvars"))
    log = f"{folder}/log"
    with open(log, "w") as output:
        done = subprocess.run(
            ["dpkg-buildpackage", "-us", "-uc", "-b"], cwd=source,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            # As at a prompt: nothing of the make that runs the tests.
            env={"PATH": os.environ["PATH"], "HOME": folder,
                 "LANG": "C.UTF-8"})
    if done.returncode != 0:
        with open(log) as file:
            raise LabError("dpkg-buildpackage failed:\n" +
                           "".join(file.readlines()[-30:]))
    found = glob.glob(f"{folder}/swiftdrop_*.deb")
    assert len(found) == 1, found
    return found[0]

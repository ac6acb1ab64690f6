# SPDX-License-Identifier: GPL-3.0-or-later
"""Exim, OpenSMTPD and sendmail as Debian has them, in one machine.

Debian's packages of MTAs exclude each other. In a container they are installed
all the same, and one of them runs at a time. tests/install has fetched them.
"""

import glob
import os
import shutil

ARCHIVES = "/usr/local/lib/swiftdrop-tests/archives"
SERVICES = ("exim4", "opensmtpd", "sendmail")
# Where each has its mail, and what it remembers of servers that were down.
SPOOLS = ("/var/spool/exim4/input", "/var/spool/exim4/db",
          "/var/spool/smtpd/queue", "/var/spool/mqueue")

# No service starts while packages are set up. What is left of the host's
# Postfix is no help to a unit that wants one.
INSTALL = """
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
cd /root
dpkg -i --no-triggers --force-conflicts,depends,overwrite,unsafe-io \\
    /root/archives/*.deb
rm -rf /usr/sbin/policy-rc.d /root/archives /var/spool/postfix
systemctl daemon-reload
"""


def install(machine, *more):
    """Installs them, and the .deb files named, in a booted nspawn.Machine."""
    folder = machine.path("/root/archives")
    os.mkdir(folder)
    for path in (*glob.glob(f"{ARCHIVES}/*.deb"), *more):
        shutil.copy(path, folder)
    # sendmail waits for minutes where its own name has no dot.
    machine.write("/etc/hosts",
                  f"127.0.0.1 localhost\n127.0.0.1 {machine.name}\n")
    machine.run("sh", "-e", "-c", INSTALL)


def stop(machine):
    """Stops the one that runs; what was in its queue is gone."""
    machine.run("systemctl", "stop", *SERVICES)
    # What has not been used yet is not there.
    machine.run("find", *SPOOLS, "-type", "f", "-delete", check=False)

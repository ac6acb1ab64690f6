# SPDX-License-Identifier: GPL-3.0-or-later
"""A private amavis, an SMTP proxy that refuses programs in attachments."""

import os
import pathlib
import pwd

from . import process

CONFIGURATION = """\
use strict;
$max_servers = 2;
$daemon_user = 'amavis';
$daemon_group = 'amavis';
$mydomain = 'example.org';
$myhostname = 'mail.example.org';
$MYHOME = '{home}';
$TEMPBASE = '{home}';
$pid_file = '{home}/pid';
$lock_file = '{home}/lock';
$enable_db = 0;
$QUARANTINEDIR = undef;
@bypass_virus_checks_maps = (1);
@bypass_spam_checks_maps = (1);
@bypass_header_checks_maps = (1);
$banned_filename_re = new_RE(qr'\\.exe$'i);
$final_banned_destiny = D_REJECT;
$inet_socket_bind = '127.0.0.1';
$inet_socket_port = {port};
$forward_method = 'smtp:[127.0.0.1]:{forward_port}';
$notify_method = $forward_method;
@local_domains_maps = (['.example.org']);
$X_HEADER_LINE = undef;
$enable_dkim_verification = 0;
$do_syslog = 0;
$logfile = '{log}';
1;
"""


class Amavis:
    """Listens at 127.0.0.1:port and passes on to 127.0.0.1:forward_port."""

    def __init__(self, folder, forward_port):
        self.folder = pathlib.Path(folder)
        self.log = self.folder / "log"
        self.port = process.free_port()
        self._process = None
        self._settings = self.folder / "amavisd.conf"
        user = pwd.getpwnam("amavis")
        home = self.folder / "home"
        home.mkdir(parents=True)
        self.folder.chmod(0o755)
        self.log.touch()
        for path in home, self.log:
            os.chown(path, user.pw_uid, user.pw_gid)
        self._settings.write_text(CONFIGURATION.format(
            home=home, port=self.port, forward_port=forward_port,
            log=self.log))

    def start(self):
        self._process = process.start(
            ["/usr/sbin/amavisd", "-c", self._settings, "foreground"],
            self.folder / "output")
        process.wait_until(lambda: process.connects(self.port),
                           self._process, "amavis", self.log)

    def stop(self):
        if self._process:
            process.stop(self._process)
            self._process = None

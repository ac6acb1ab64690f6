# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenStack Keystone on SQLite, with one project, user and credential."""

import json
import os
import time
import urllib.error
import urllib.request

from . import process
from .tls import Tls

SERVER = os.path.join(os.path.dirname(__file__), "servers",
                      "keystone_server.py")


class Keystone:
    """A Keystone whose catalog knows the Swift at swift_url.

    After start(): url (with /v3), user, password, user_id, project,
    project_id, application_credential_id, application_credential_secret.
    http_port speaks HTTP even where the URL is HTTPS. Tokens live for
    token_life seconds; rounds are bcrypt's, of which Keystone's default is 12.
    """

    user = "mailer"
    password = "mailer-password"
    project = "mail"

    def __init__(self, folder, swift_url, authority=None, token_life=3600,
                 rounds=4):
        self.folder = folder
        self.log = f"{folder}/keystone.log"
        self.port = process.free_port()
        self.http_port = process.free_port() if authority else self.port
        self._swift_url = swift_url
        self._token_life = token_life
        self._rounds = rounds
        self._process = None
        os.makedirs(folder, exist_ok=True)
        self.url = (f"{'https' if authority else 'http'}://127.0.0.1:"
                    f"{self.port}/v3")
        self.tls = authority and Tls(f"{folder}/tls", authority,
                                     self.http_port, port=self.port)

    @property
    def running(self):
        return self._process is not None

    def start(self):
        sock = process.listen(self.http_port)
        try:
            self._process = process.start(
                ["/usr/bin/python3", SERVER, self.folder, str(sock.fileno()),
                 "--url", self.url, "--swift", self._swift_url,
                 "--user", self.user, "--password", self.password,
                 "--project", self.project,
                 "--token-life", str(self._token_life),
                 "--rounds", str(self._rounds)],
                self.log, pass_fds=[sock.fileno()])
        finally:
            sock.close()
        process.wait_until(self._healthy, self._process, "Keystone", self.log)
        with open(f"{self.folder}/ids.json") as file:
            vars(self).update(json.load(file))
        if self.tls:
            self.tls.start()

    def stop(self):
        if self.tls:
            self.tls.stop()
        if self._process:
            process.stop(self._process)
            self._process = None

    def options(self):
        """Returns the keys of a swiftdrop account that logs in here."""
        return {"auth_version": "3", "user": self.user, "key": self.password,
                "os_options_project_name": self.project,
                "os_options_project_domain_name": "Default",
                "os_options_user_domain_name": "Default"}

    def application_credential_options(self):
        """The same with the application credential instead of a password."""
        return {"auth_version": "3",
                "os_options_application_credential_id":
                    self.application_credential_id,
                "os_options_application_credential_secret":
                    self.application_credential_secret}

    def revoke(self, token):
        """Ends a token before its time."""
        self._request("DELETE", "/auth/tokens", token,
                      {"X-Subject-Token": token})

    def change_password(self, token, password):
        """Gives the user another one, which ends all tokens, this one too."""
        self._request("POST", f"/users/{self.user_id}/password", token, {},
                      {"user": {"password": password,
                                "original_password": self.password}})
        self.password = password
        # So does it those that are issued within the same second.
        time.sleep(1)

    def _request(self, method, path, token, headers, body=None):
        urllib.request.urlopen(urllib.request.Request(
            self.url + path, method=method,
            data=body and json.dumps(body).encode(),
            headers={"X-Auth-Token": token,
                     "Content-Type": "application/json", **headers}),
            timeout=60).close()

    def _healthy(self):
        try:
            with urllib.request.urlopen(
                    f"http://127.0.0.1:{self.http_port}/v3",
                    timeout=60) as answer:
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False

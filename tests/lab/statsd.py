# SPDX-License-Identifier: GPL-3.0-or-later
"""statsd itself, as npm has it."""

import ast
import os
import socket

from . import process

PROGRAM = "/usr/local/lib/swiftdrop-tests/lib/node_modules/statsd/stats.js"


class Statsd:
    """Counts what comes to 127.0.0.1:port, and never forgets it."""

    def __init__(self, folder):
        self.folder = folder
        self.port = process.free_port()
        self.log = f"{folder}/statsd.log"
        self._management = process.free_port()
        self._process = None
        os.makedirs(folder, exist_ok=True)
        with open(f"{folder}/config.js", "w") as file:
            file.write(f"""{{
                address: "127.0.0.1", port: {self.port},
                mgmt_address: "127.0.0.1", mgmt_port: {self._management},
                backends: [], flushInterval: 3600000
            }}\n""")

    def start(self):
        self._process = process.start(
            ["/usr/bin/node", PROGRAM, f"{self.folder}/config.js"], self.log)
        process.wait_until(lambda: process.connects(self._management),
                           self._process, "statsd", self.log)

    def stop(self):
        if self._process:
            process.stop(self._process)
            self._process = None

    def ask(self, what):
        """Returns its "counters" or "timers", by their names."""
        with socket.create_connection(("127.0.0.1", self._management),
                                      10) as connection:
            connection.sendall(what.encode() + b"\n")
            answer = b""
            while not answer.endswith(b"END\n\n"):
                answer += connection.recv(65536)
        return ast.literal_eval(answer.decode().partition("END")[0])

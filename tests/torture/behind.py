# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy between one filter and the server behind.

Its points are VERB.before (the command has not been passed on), VERB.after
(it has, its answer has not come back), VERB.inside (half of the answer has),
VERB.answered; greeting.after, content.before (nothing of it has been passed
on) and content.inside (half of what came first has), and dot like a verb.
"""

import time

from .store import Cut, Proxy, receive


class Behind(Proxy):
    side = "behind"

    def serve(self, client):
        upstream = self.upstream()
        try:
            self.session(client, upstream)
        finally:
            self.forget(upstream)

    def session(self, client, upstream):
        files = {"client": b"", "upstream": b""}
        self.answer(client, upstream, files, "greeting", 1)
        while True:
            line = self.line(client, files, "client")
            verb = line.split(b" ", 1)[0].strip().decode().upper()
            number = self.count(verb)
            code = self.command(client, upstream, files, verb, number, line)
            if verb == "DATA" and code == b"3":
                self.content(client, upstream, files)
            if verb == "QUIT":
                return

    @staticmethod
    def line(sock, files, name):
        while b"\r\n" not in files[name]:
            files[name] += receive(sock)
        line, _, files[name] = files[name].partition(b"\r\n")
        return line + b"\r\n"

    def command(self, client, upstream, files, verb, number, line):
        """Passes a command on and its answer back; the answer's digit."""
        action, argument = self.at(f"{verb}.before", number, client)
        if action == "early":
            client.sendall(argument.encode() + b"\r\n")
        if action == "answer":
            client.sendall(argument.encode() + b"\r\n")
            if verb in ("DATA", "dot"):
                # What was not passed on must not become a mail.
                upstream.close()
            return b"0" if verb == "DATA" else argument[:1].encode()
        upstream.sendall(line)
        return self.answer(client, upstream, files, verb, number)

    def answer(self, client, upstream, files, verb, number):
        reply = self.line(upstream, files, "upstream")
        while reply.rsplit(b"\r\n", 2)[-2][3:4] == b"-":
            reply += self.line(upstream, files, "upstream")
        action, _ = self.at(f"{verb}.after", number, client)
        if action == "garble":
            reply = b"??? " + reply
        half = len(reply) // 2
        client.sendall(reply[:half])
        if action == "throttle":
            time.sleep(1)
        self.at(f"{verb}.inside", number, client)
        client.sendall(reply[half:])
        self.at(f"{verb}.answered", number, client)
        return reply[:1]

    def content(self, client, upstream, files):
        """Mail data; the dot is held back and is a command of its own."""
        number = self.count("content")
        self.at_content("before", number, client)
        # As if the line end of DATA were the content's.
        window = b"\r\n" + (files["client"] or receive(client))
        before, throttled = 2, None
        while (end := window.find(b"\r\n.\r\n")) < 0 or throttled is None:
            # Of what may be its end nothing.
            sure = end if end >= 0 else max(len(window) - 4, 0)
            if throttled is None:
                sure = min(sure, len(window) // 2)
            upstream.sendall(window[before:sure])
            window, before = window[sure:], max(before - sure, 0)
            if throttled is None:
                throttled = self.at_content("inside", number, client)
                continue
            if throttled:
                time.sleep(0.1)
            window += receive(client, throttled)
        upstream.sendall(window[before:end + 2])
        files["client"] = window[end + 5:]
        self.command(client, upstream, files, "dot", self.count("dot"),
                     b".\r\n")

    def at_content(self, where, number, client):
        """Returns whether it goes on slowly."""
        action, argument = self.at(f"content.{where}", number, client)
        if action == "early":
            # Who says 421 goes; the dot may be on its way already.
            client.sendall(argument.encode() + b"\r\n")
            raise Cut()
        return action == "throttle"

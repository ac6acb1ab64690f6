#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one would write in place of swiftdrop: a before-queue filter on
aiosmtpd and swiftclient, for bench/run to compare with.

    bench/filter.py SOCKET INI    the account is the section [box]

Over a UNIX socket, as TCP has Postfix and it wait for each other's ACKs, 40 ms
a mail. One process that lives long. One login for all; a connection to Swift
for each of 50 threads, kept; 250 only after Swift has answered 201 with the
right ETag. No limits, no withdrawal, no journal.
"""

import asyncio
import concurrent.futures
import configparser
import hashlib
import os
import sys
import threading
import time
import uuid

import swiftclient
from aiosmtpd.smtp import SMTP

THREADS = 50


class Box:
    """A container, and each thread's connection to it."""

    def __init__(self, account):
        self._container = account["container"]
        self._options = {
            "authurl": account["authurl"], "user": account["user"],
            "key": account["key"], "auth_version": account["auth_version"],
            "os_options": {
                name.removeprefix("os_options_"): value
                for name, value in account.items()
                if name.startswith("os_options_")}}
        self._url, self._token = swiftclient.Connection(
            **self._options).get_auth()
        self._of = threading.local()

    def put(self, sender, recipients, content):
        if not hasattr(self._of, "connection"):
            # With 401 for an answer it logs in anew, by itself.
            self._of.connection = swiftclient.Connection(
                preauthurl=self._url, preauthtoken=self._token,
                **self._options)
        md5 = hashlib.md5(content).hexdigest()
        etag = self._of.connection.put_object(
            self._container, f"cur/{time.time():.6f}.{uuid.uuid4().hex}",
            content, etag=md5, content_type="message/rfc822", headers={
                "X-Object-Meta-Envelope-From": sender,
                "X-Object-Meta-Envelope-To": ",".join(recipients)})
        if etag != md5:
            raise ValueError(f"Swift has something else: {etag}")


class Handler:
    def __init__(self, box):
        self._box = box
        self._pool = concurrent.futures.ThreadPoolExecutor(THREADS)

    async def handle_DATA(self, server, session, envelope):
        try:
            await asyncio.get_running_loop().run_in_executor(
                self._pool, self._box.put, envelope.mail_from,
                envelope.rcpt_tos, envelope.content)
        except Exception as error:
            print(error, file=sys.stderr)
            return "451 4.3.0 Error: queue file write error"
        return "250 2.0.0 Ok: stored"


async def serve(path, box):
    handler = Handler(box)
    server = await asyncio.get_running_loop().create_unix_server(
        lambda: SMTP(handler, data_size_limit=52494336, enable_SMTPUTF8=True),
        path, backlog=128)
    os.chmod(path, 0o666)
    await server.serve_forever()


def main(path, settings):
    ini = configparser.ConfigParser(interpolation=None)
    ini.read(settings)
    asyncio.run(serve(path, Box(ini["box"])))


if __name__ == "__main__":
    main(*sys.argv[1:])

# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of swift_server.py that Swift itself loads by name."""

import logging
import sys
import time

import eventlet


def log_to_stderr(conf, name, log_to_console, log_route, fmt, logger, adapted):
    """A log_custom_handlers of Swift: there is no syslog to talk to."""
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(server)s %(message)s"))
    logger.addHandler(handler)
    logger.propagate = False


class Cache:
    """What memcached does for a Swift of many processes, for one process."""

    def __init__(self):
        self._values = {}

    def get(self, key, raise_on_error=False):
        value, expires = self._values.get(key, (None, 0))
        if expires and expires < time.time():
            del self._values[key]
            return None
        return value

    def set(self, key, value, serialize=True, time=0, min_compress_len=0,
            raise_on_error=False):
        self._values[key] = (value, self._expires(time))

    def incr(self, key, delta=1, time=0):
        value = int(self.get(key) or 0) + int(delta)
        self._values[key] = (value, self._expires(time))
        return value

    def decr(self, key, delta=1, time=0):
        return self.incr(key, -delta, time)

    def delete(self, key, server_key=None):
        self._values.pop(key, None)

    @staticmethod
    def _expires(seconds):
        # As memcached: up to 30 days it is a span, above that a date.
        if seconds and seconds < 30 * 86400:
            return time.time() + seconds
        return seconds


_cache = Cache()


def cache_factory(global_conf, **local_conf):
    def make(app):
        def call(env, start_response):
            env["swift.cache"] = _cache
            return app(env, start_response)
        return call
    return make


class Fault:
    """Fails requests as one word in a file says, read at each request.

    NNN        answer a PUT of an object with this status, body unread
    late:NNN   the same after reading the body
    lost:NNN   pass the PUT on, then answer with NNN: stored, but not said
    slow:S     pass the PUT on after S seconds
    auth:NNN   answer a v1 authentication request with this status
    auth-slow:S   pass that on after S seconds
    token:NNN  answer NNN to every request but authentication
    """

    def __init__(self, app, path):
        self._app = app
        self._path = path

    def __call__(self, env, start_response):
        try:
            with open(self._path) as file:
                kind, _, value = file.read().strip().rpartition(":")
        except FileNotFoundError:
            return self._app(env, start_response)
        authenticates = env["PATH_INFO"].startswith("/auth/")
        if kind.startswith("auth"):
            hit = authenticates
            kind = kind[len("auth-"):]
        elif kind == "token":
            hit = not authenticates
            kind = ""
        else:
            hit = env["REQUEST_METHOD"] == "PUT" and \
                env["PATH_INFO"].count("/") >= 4
        if not hit:
            return self._app(env, start_response)
        if kind == "slow":
            eventlet.sleep(float(value))
            return self._app(env, start_response)
        if kind == "late":
            while env["wsgi.input"].read(65536):
                pass
        elif kind == "lost":
            for _ in self._app(env, lambda *unused: None):
                pass
        body = b"the lab was told to fail\n"
        start_response(f"{value} Fault", [("Content-Length", str(len(body)))])
        return [body]


def fault_factory(global_conf, **local_conf):
    return lambda app: Fault(app, local_conf["path"])

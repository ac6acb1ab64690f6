# SPDX-License-Identifier: GPL-3.0-or-later
"""What clouds have in front of Swift: HAProxy, nginx, Apache; and squid and
tinyproxy, HTTP proxies that companies have in front of clouds.

Each is Debian's own in one process with many ways in, a port each: a way
differs from the next by a few lines of the configuration. stunnel is in
tls.py.
"""

import collections
import os
import pathlib
import re
import subprocess

from . import process

PROXY_USER, PROXY_PASSWORD = "mail", "pass-word"

# name of a way: what its port is bound with, its lines, whom it asks
SWIFT, NOBODY = "@swift@", "@nobody@"

HAPROXY = """
global
    ssl-load-extra-del-ext
defaults
    mode http
    retries 0
    timeout connect 5s
    timeout client 20s
    timeout server 20s
listen six
    bind [::1]:@six@
    server swift 127.0.0.1:@swift@
listen four
    bind 127.0.0.1:@six@
    server swift 127.0.0.1:@nobody@
"""
HAPROXY_WAY = """
listen {name}
    bind 127.0.0.1:@{name}@ {bind}
    bind [::1]:@{name}@ {bind}
    {lines}
    server swift 127.0.0.1:{server}
"""
HAPROXY_WAYS = {
    "plain": ("", "", SWIFT),
    "down": ("", "", NOBODY),
    "hurried": ("", "timeout server 500ms", SWIFT),
    "forgetful": ("", "timeout http-keep-alive 100ms", SWIFT),
    "tls": ("ssl crt @crt@ alpn h2,http/1.1", "", SWIFT),
    "tls13": ("ssl crt @crt@ alpn h2,http/1.1 ssl-min-ver TLSv1.3",
              "log stdout format raw local0\n"
              "    log-format \"%HV %sslv %HM %ST\"", SWIFT),
    "closed": ("ssl crt @crt@ ca-file @ca@ verify required", "", SWIFT),
}

NGINX = """
daemon off;
master_process off;
pid @folder@/pid;
error_log stderr;
events {{ }}
http {{
    log_format ways "$server_protocol $ssl_protocol $request_method $status";
    access_log @folder@/access ways;
    client_body_temp_path @folder@/body;
    proxy_temp_path @folder@/proxy;
    fastcgi_temp_path @folder@/fastcgi;
    scgi_temp_path @folder@/scgi;
    uwsgi_temp_path @folder@/uwsgi;
    proxy_http_version 1.1;
    proxy_set_header Host $http_host;
    ssl_certificate @crt@;
    ssl_certificate_key @key@;
    map $request_method $put {{ PUT $server_port; default ""; }}
    limit_req_zone $put zone=puts:1m rate=1r/s;
    {ways}
}}
"""
NGINX_WAY = """
    server {{
        listen 127.0.0.1:@{name}@ {bind};
        listen [::1]:@{name}@ {bind};
        {lines}
        location / {{ proxy_pass http://127.0.0.1:{server}; }}
    }}
"""
LARGE = "client_max_body_size 64m; "
NGINX_WAYS = {
    "default": ("", "", SWIFT),
    "plain": ("", LARGE, SWIFT),
    "unbuffered": ("", LARGE + "proxy_request_buffering off;", SWIFT),
    "down": ("", "", NOBODY),
    "hurried": ("", "proxy_read_timeout 500ms;", SWIFT),
    "forgetful": ("", "keepalive_timeout 100ms;", SWIFT),
    "limited": ("", "limit_req zone=puts;", SWIFT),
    "limited_429": ("", "limit_req zone=puts; limit_req_status 429;", SWIFT),
    "narrow": ("", "large_client_header_buffers 4 1k;", SWIFT),
    "tls": ("ssl http2", LARGE, SWIFT),
    "tls13": ("ssl http2", LARGE + "ssl_protocols TLSv1.3;", SWIFT),
    "closed": ("ssl", "ssl_client_certificate @ca@; ssl_verify_client on;",
               SWIFT),
}

APACHE = """
ServerName 127.0.0.1
ServerRoot @folder@
DefaultRuntimeDir @folder@
PidFile @folder@/pid
ErrorLog /dev/stderr
User www-data
Group www-data
StartServers 1
ProxyPreserveHost On
"""
APACHE_MODULES = ("authz_core", "mpm_event", "proxy", "proxy_http",
                  "socache_shmcb", "ssl")
APACHE_WAY = """
Listen 127.0.0.1:@{name}@
<VirtualHost 127.0.0.1:@{name}@>
    {lines}
    ProxyPass / http://127.0.0.1:{server}/ {bind}
</VirtualHost>
"""
APACHE_WAYS = {
    "plain": ("", "", SWIFT),
    "down": ("", "", NOBODY),
    "hurried": ("timeout=1", "", SWIFT),
    "forgetful": ("", "KeepAliveTimeout 100ms", SWIFT),
    "tls": ("", "SSLEngine on\nSSLCertificateFile @crt@\n"
            "SSLCertificateKeyFile @key@", SWIFT),
}

SQUID = """
http_port 127.0.0.1:@proxy@
pid_filename none
cache_log @folder@/cache.log
access_log stdio:@folder@/access
cache deny all
coredump_dir @folder@
netdb_filename none
pinger_enable off
shutdown_lifetime 0 seconds
visible_hostname lab.invalid
dns_nameservers 127.0.0.1
auth_param basic program /usr/lib/squid/basic_ncsa_auth @folder@/users
auth_param basic children 1 startup=1
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
"""

TINYPROXY = """
Port @proxy@
Listen 127.0.0.1
Timeout 60
LogFile "@folder@/access"
LogLevel Connect
BasicAuth @user@ @password@
"""


class Front:
    """A server and its configuration.

    argv        what runs it; {} is the configuration's path
    values      what stands for words between @ in text; a word without a
                value is a port, the same each time
    more        for process.start()
    """

    def __init__(self, folder, argv, text, values=(), **more):
        self.folder = folder
        self.log = f"{folder}/log"
        self._more = more
        self._ports = collections.defaultdict(process.free_port)
        self._process = None
        values = {"folder": folder, **dict(values)}
        os.makedirs(folder)
        path = f"{folder}/configuration"
        with open(path, "w") as file:
            file.write(re.sub(r"@(\w+)@", lambda found: str(
                values.get(found[1]) or self._ports[found[1]]), text))
        self._argv = [word.format(path) for word in argv]
        self.nobody = self._ports.pop("nobody", None)

    def port(self, way):
        """Returns the port of a way in."""
        assert way in self._ports, way
        return self._ports[way]

    def access(self):
        """Returns what is in the file access."""
        return pathlib.Path(self.folder, "access").read_text()

    def start(self):
        self._process = process.start(self._argv, self.log, **self._more)
        # Workers may not notice that their master is gone.
        self._guard = process.guard(self._process)
        process.wait_until(
            lambda: all(map(process.connects, self._ports.values())),
            self._process, self._argv[0], self.log)

    def stop(self):
        if self._process:
            self._guard.communicate(b"done\n")
            process.stop(self._process, 1)
            self._process = None


def _ways(form, ways):
    return "".join(form.format(name=name, bind=bind, lines=lines,
                               server=server)
                   for name, (bind, lines, server) in ways.items())


def haproxy(folder, places):
    """places: swift, the port of a Swift; crt and key, a certificate; ca, whose
    client certificates are taken. The way tls13 logs as nginx does."""
    front = Front(folder, ["/usr/sbin/haproxy", "-db", "-f", "{}"],
                  HAPROXY + _ways(HAPROXY_WAY, HAPROXY_WAYS), places)
    os.symlink(front.log, f"{folder}/access")
    return front


def nginx(folder, places):
    """What came is in the file access, a line a request."""
    return Front(folder, ["/usr/sbin/nginx", "-e", "stderr", "-c", "{}"],
                 NGINX.format(ways=_ways(NGINX_WAY, NGINX_WAYS)), places)


def apache(folder, places):
    modules = "".join(
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"
        for name in APACHE_MODULES)
    return Front(folder,
                 ["/usr/sbin/apache2", "-D", "FOREGROUND", "-f", "{}"],
                 modules + APACHE + _ways(APACHE_WAY, APACHE_WAYS), places)


def squid(folder):
    """An HTTP proxy that knows PROXY_USER alone; access, as above."""
    # It would become that user by itself, and outlive us.
    user = {"user": "proxy", "group": "proxy", "extra_groups": []}
    front = Front(folder, ["/usr/sbin/squid", "-N", "-f", "{}"], SQUID,
                  **(user if os.getuid() == 0 else {}))
    word = subprocess.run(["openssl", "passwd", "-apr1", PROXY_PASSWORD],
                          check=True, capture_output=True, text=True).stdout
    pathlib.Path(folder, "users").write_text(f"{PROXY_USER}:{word}")
    os.chmod(folder, 0o777)
    return front


def tinyproxy(folder):
    """The same, by another program."""
    return Front(folder, ["/usr/bin/tinyproxy", "-d", "-c", "{}"], TINYPROXY,
                 {"user": PROXY_USER, "password": PROXY_PASSWORD})

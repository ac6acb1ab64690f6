# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS to the store: the account keys cacert, insecure, cert, cert_key and
the HTTP hygiene of contract, section 2."""

import shutil
import ssl
import subprocess
import uuid
import warnings

import lab
import pytest

import standin
from helpers import program

MESSAGE = b"Subject: tls\r\n\r\ntext\r\n"
CONFIGURATION = "451 4.3.5 Error: mail system configuration error"
TEMPORARY = "451 4.3.0 Error: queue file write error"
NO_ISSUER = "unable to get local issuer certificate"


def server(authority, alt_name="IP:127.0.0.1", days=30):
    """A server's context with a new certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(
        f"server-{uuid.uuid4().hex}", alt_name, days))
    return context


def stored(bench, account, **more):
    """The reply to one message for this account."""
    session = bench.session(bench.config(archive=account), **more)
    session.greet()
    reply = session.deliver(MESSAGE)
    session.quit()
    return reply


def deferred(bench, account, reason, code=CONFIGURATION, **more):
    """One message that is not stored, and the words of its log line."""
    session = bench.session(bench.config(archive=account), **more)
    session.greet()
    assert str(session.deliver(MESSAGE)) == code
    session.quit()
    line, = session.log.lines("deferred")
    assert f", dsn={code.split()[1]}, " in line
    assert reason in line.partition(", reason=")[2]


def refused(bench, store, account, reason, code=CONFIGURATION, **more):
    """The same where nothing was asked, so no secret was told."""
    deferred(bench, account, reason, code, **more)
    assert store.requests == []


def refused_certificate(bench, authority, words, *of_certificate):
    with standin.Store(tls=server(authority, *of_certificate)) as store:
        refused(bench, store, store.account(cacert=authority.certificate),
                words)


def test_cacert_file(bench, authority):
    with standin.Store(tls=server(authority)) as store:
        options = store.account(cacert=authority.certificate)
        assert stored(bench, options).code == 250


def test_a_connection_serves_all_requests(bench, authority):
    """What TLS itself sends unasked (session tickets) does not end it."""
    with standin.Store(tls=server(authority)) as store:
        session = bench.accept(archive=store.account(
            cacert=authority.certificate))
        for _ in range(3):
            assert session.deliver(MESSAGE).code == 250
        assert store.connections == 1
        session.quit()


def test_cacert_hashed_folder(bench, authority):
    folder = authority.hashed_folder
    with standin.Store(tls=server(authority)) as store:
        assert stored(bench, store.account(cacert=folder)).code == 250


def test_cacert_default_is_the_folder(bench, authority, tmp_path):
    """/etc/ssl/certs as a folder: no bundle is there to be read."""
    # Copied, because its links lead out of it.
    folder = shutil.copytree(authority.hashed_folder, tmp_path / "certs")
    prefix = ("unshare", "-rm",
              *program.shell(f"mount --bind {folder} /etc/ssl/certs"))
    with standin.Store(tls=server(authority)) as store:
        assert stored(bench, store.account(), prefix=prefix).code == 250


def test_unknown_authority(bench, authority):
    with standin.Store(tls=server(authority)) as store:
        refused(bench, store, store.account(), NO_ISSUER)


def test_another_authority(bench, authority, tmp_path):
    other = lab.Authority(tmp_path / "other")
    with standin.Store(tls=server(authority)) as store:
        refused(bench, store, store.account(cacert=other.certificate),
                NO_ISSUER)


def test_authority_that_is_taken_away(bench, authority, tls_container,
                                      tmp_path):
    """How a store is no longer trusted: by the next session."""
    cacert = tmp_path / "ca.crt"
    shutil.copy(authority.certificate, cacert)
    account = {**tls_container.options(), "recipients": "*",
               "cacert": cacert, "retries": "0"}
    assert stored(bench, account).code == 250
    shutil.copy(lab.Authority(tmp_path / "other").certificate, cacert)
    deferred(bench, account, NO_ISSUER)
    cacert.unlink()
    deferred(bench, account, f"error setting certificate file: {cacert}")
    assert len(tls_container.names()) == 1


def test_cacert_that_is_no_certificate(bench, authority):
    with standin.Store(tls=server(authority)) as store:
        cacert = bench.file("ca.crt", "no certificate\n")
        refused(bench, store, store.account(cacert=cacert),
                f"error setting certificate file: {cacert}")


def test_self_signed_certificate(bench, authority, tmp_path):
    """Of the right name, but nobody vouches for it."""
    other = lab.Authority(tmp_path / "other", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(other.certificate, other.key)
    with standin.Store(tls=context) as store:
        refused(bench, store, store.account(cacert=authority.certificate),
                "self-signed certificate")


def test_expired_certificate(bench, authority):
    refused_certificate(bench, authority, "certificate has expired",
                        "IP:127.0.0.1", -1)


@pytest.mark.parametrize("name", ("IP:192.0.2.1", "DNS:127.0.0.1",
                                  "DNS:localhost"))
def test_certificate_of_another_host(name, bench, authority):
    refused_certificate(bench, authority, "127.0.0.1", name)


def test_insecure(bench, authority):
    context = server(authority, "IP:192.0.2.1", -1)
    with standin.Store(tls=context) as store:
        assert stored(bench, store.account(insecure="yes")).code == 250
        assert stored(bench, store.account(insecure="no")).code == 451


def test_tls_1_1_is_refused(bench, authority):
    context = server(authority)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    # Debian's own openssl.cnf refuses it as well; the program must by itself.
    lax = bench.file("openssl.cnf", "openssl_conf = init\n[init]\n"
                     "ssl_conf = ssl\n[ssl]\nsystem_default = lax\n[lax]\n"
                     "MinProtocol = TLSv1\nCipherString = ALL:@SECLEVEL=0\n")
    prefix = ("unshare", "-rm", *program.shell(
        f"mount --bind {lax} /etc/ssl/openssl.cnf"))
    with standin.Store(tls=context) as store:
        options = store.account(cacert=authority.certificate)
        refused(bench, store, options, "alert protocol version", TEMPORARY,
                prefix=prefix)


def with_openssl_cnf(bench, text):
    """A prefix under which this is the administrator's configuration."""
    path = bench.file("openssl.cnf", "openssl_conf = init\n[init]\n" + text)
    return ("unshare", "-rm", *program.shell(
        f"mount --bind {path} /etc/ssl/openssl.cnf"))


def test_minimum_version_of_the_administrator_counts(bench, authority):
    context = server(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    prefix = with_openssl_cnf(bench, "ssl_conf = ssl\n[ssl]\n"
                              "system_default = s\n[s]\n"
                              "MinProtocol = TLSv1.3\n")
    with standin.Store(tls=context) as store:
        options = store.account(cacert=authority.certificate)
        refused(bench, store, options, "alert protocol version", TEMPORARY,
                prefix=prefix)
        assert stored(bench, options).code == 250


FIPS = "alg_section = evp\n[evp]\ndefault_properties = fips=yes\n"


@pytest.mark.parametrize("auth", ("v1", "tempurl"))
def test_fips_leaves_the_digests_alone(auth, bench, store):
    """There is no MD5 by default then, and the ETag is one."""
    options = store.account()
    if auth == "tempurl":
        options = {"recipients": "box@example.com", "container": "mail",
                   "auth_version": "tempurl", "temp_url_key": "k",
                   "storage_url": store.storage_url}
    reply = stored(bench, options, prefix=with_openssl_cnf(bench, FIPS))
    assert reply.code == 250
    assert store.only[1] == MESSAGE


def test_fips_counts_for_tls(bench, authority):
    """Without a FIPS provider there is no TLS: deferred, with words."""
    with standin.Store(tls=server(authority)) as store:
        options = store.account(cacert=authority.certificate)
        refused(bench, store, options, "randomness", TEMPORARY,
                prefix=with_openssl_cnf(bench, FIPS))


def test_tls_1_2_is_enough(bench, authority):
    context = server(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with standin.Store(tls=context) as store:
        options = store.account(cacert=authority.certificate)
        assert stored(bench, options).code == 250


def test_client_certificate(bench, authority):
    context = server(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.certificate)
    cert, key = authority.issue(f"client-{uuid.uuid4().hex}")
    with standin.Store(tls=context) as store:
        options = store.account(cacert=authority.certificate)
        assert stored(bench, options).code == 451
        assert store.requests == []
        assert stored(bench, {**options, "cert": cert,
                              "cert_key": key}).code == 250


@pytest.mark.parametrize("how", ("socketpair", "pipe"))
def test_pass_phrase_of_a_key_is_not_read_from_the_client(
        how, bench, authority, tmp_path):
    """Descriptor 0 is the session's alone, whatever a library wants."""
    cert, key = authority.issue(f"client-{uuid.uuid4().hex}")
    locked = tmp_path / "locked.key"
    subprocess.run(["openssl", "pkey", "-in", key, "-aes256", "-passout",
                    "pass:phrase", "-out", locked], check=True)
    with standin.Store(tls=server(authority)) as store:
        session = bench.session(bench.config(archive=store.account(
            cacert=authority.certificate, cert=cert, cert_key=locked,
            recipients="*")), how=how)
        session.greet()
        session.envelope()
        session.data(MESSAGE)
        session.send(b"phrase\r\nNOOP\r\n")
        assert str(session.reply()).startswith("451 4.3.5 ")
        assert session.reply().code == 500
        assert session.reply().code == 250
        session.quit()
        line = session.log.one("deferred")
        assert "cert_key" in line["reason"] and str(locked) in line["reason"]
        assert store.requests == []


def keystone(store, **options):
    return store.account(**{
        "auth_version": "3", "authurl": store.keystone, "user": "mailer",
        "os_options_project_name": "mail", **options})


PLAIN = "the storage URL is not https as authurl is"


def test_plain_storage_url_after_https_is_refused(bench, authority, store):
    with standin.Store(tls=server(authority)) as secure:
        secure.storage_url = store.storage_url
        refused(bench, store, secure.account(cacert=authority.certificate),
                PLAIN)
        assert secure.kinds() == ["AUTH"]


def test_plain_endpoint_after_https_is_refused(bench, authority, store):
    """The catalog of a Keystone that is all of its cloud that has TLS."""
    catalog = [standin.endpoint(store.storage_url)]
    with standin.Store(catalog, tls=server(authority)) as secure:
        refused(bench, store, keystone(secure, cacert=authority.certificate),
                PLAIN)
        assert secure.kinds() == ["AUTH"]


@pytest.mark.parametrize("status", (301, 302, 303, 307, 308))
@pytest.mark.parametrize("account, kind", (
    (standin.Store.account, "AUTH"), (standin.Store.account, "PUT"),
    (keystone, "AUTH"), (keystone, "PUT")))
def test_redirect_to_plain_http_is_not_followed(
        account, kind, status, bench, authority, store):
    with standin.Store(tls=server(authority)) as secure:
        secure.always(kind, lambda exchange: exchange.answer(
            status, Location=store.url + exchange.target))
        refused(bench, store, account(secure, cacert=authority.certificate),
                f"127.0.0.1:{secure.port} answered {status}")
        assert secure.objects == {}


@pytest.mark.parametrize("option", ("os_options_object_storage_url",))
def test_configured_plain_storage_url_after_https(option, bench, authority,
                                                  store):
    """At the latest when a message comes."""
    with standin.Store(tls=server(authority)) as secure:
        session = bench.session(bench.config(archive=secure.account(
            cacert=authority.certificate, **{option: store.storage_url})))
        reply = session.reply()
        if reply.code == 220:
            session.cmd("EHLO x")
            reply = session.deliver(MESSAGE)
        assert reply.code in (421, 451)
        assert store.requests == []


def test_environment_does_not_add_authorities(bench, authority):
    env = {"SSL_CERT_FILE": authority.certificate,
           "SSL_CERT_DIR": authority.hashed_folder,
           "CURL_CA_BUNDLE": authority.certificate}
    with standin.Store(tls=server(authority)) as store:
        refused(bench, store, store.account(), NO_ISSUER, env=env)


def test_environment_changes_nothing(bench, authority, tmp_path):
    keys = tmp_path / "keys"
    broken = bench.file("openssl.cnf", "openssl_conf = init\n[init]\n"
                        "ssl_conf = ssl\n[ssl]\nsystem_default = s\n[s]\n"
                        "MaxProtocol = TLSv1\nCipherString = NULL\n")
    env = {"SSLKEYLOGFILE": str(keys), "OPENSSL_CONF": str(broken),
           "SSL_CERT_FILE": "/nonexistent", "SSL_CERT_DIR": "/nonexistent",
           "CURL_CA_BUNDLE": "/nonexistent"}
    with standin.Store(tls=server(authority)) as store:
        options = store.account(cacert=authority.certificate)
        assert stored(bench, options, env=env).code == 250
    assert not keys.exists()


def test_server_that_speaks_no_tls(bench, store, authority):
    options = store.account(
        authurl=store.authurl.replace("http:", "https:"),
        cacert=authority.certificate)
    with standin.Server() as silent:
        silent.serve = lambda connection: connection.sendall(b"HTTP/1.1 200\r")
        options["authurl"] = f"https://127.0.0.1:{silent.port}/auth/v1.0"
        assert stored(bench, options).code == 451
    assert store.requests == []


# rspamd, by the system's authorities.

@pytest.mark.parametrize("required", ("yes", "no"))
def test_rspamd_of_another_authority_is_not_asked(required, bench, authority,
                                                  store):
    """Nor shown the message; the mail is deferred where its verdict is
    required."""
    with standin.Store(tls=server(authority)) as rspamd:
        session = bench.accept(
            SMTP={"rspamd": rspamd.url, "rspamd_required": required},
            archive=store.account())
        assert session.deliver(MESSAGE).code == (
            451 if required == "yes" else 250)
        session.quit()
        assert rspamd.requests == []
        assert NO_ISSUER in session.log.one("rspamd")["reason"]

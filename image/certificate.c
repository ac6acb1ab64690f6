/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The server's certificate.  Postfix would take a pair that does not belong
 * together, half written perhaps while it is renewed, and go on without TLS;
 * so it gets copies of pairs that were looked at here.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "certificate.h"
#include "clock.h"
#include "file.h"
#include "files.h"
#include "logs.h"
#include "paths.h"

#include "banned.h"

enum {
	PEM_MAX = 256 * 1024, /* octets of a file; a chain is some KiB */
	LIFE_DAYS = 3650,     /* nobody renews a certificate made here */
	WARN_DAYS = 14,
	REMIND_MS = 86400 * 1000 /* between warnings of its end */
};

static void
add_error(struct buf *reason, const char *what)
{
	const char *text;

	text = ERR_reason_error_string(ERR_get_error());
	buf_addf(reason, "%s: %s", what, text == NULL ? "failed" : text);
}

/* What is wrong with a pair; *days becomes those that it has left. */
static void
check_pair(const struct settings *s, const struct buf *cert,
    const struct buf *key, int *days, struct buf *reason)
{
	char none[] = "";
	BIO *cert_bio, *key_bio;
	EVP_PKEY *private_key;
	X509 *leaf; /* the first of the chain is the server's */
	int seconds;

	cert_bio = BIO_new_mem_buf(buf_text(cert), (int)cert->len);
	key_bio = BIO_new_mem_buf(buf_text(key), (int)key->len);
	/* With a passphrase given OpenSSL does not ask on the terminal. */
	leaf = PEM_read_bio_X509(cert_bio, NULL, NULL, none);
	private_key = PEM_read_bio_PrivateKey(key_bio, NULL, NULL, none);
	BIO_free(cert_bio);
	BIO_free(key_bio);
	if (leaf == NULL)
		buf_addf(reason, "%s: holds no certificate in PEM",
		    s->tls_cert_file);
	else if (private_key == NULL)
		buf_addf(reason,
		    "%s: holds no private key in PEM without a passphrase",
		    s->tls_key_file);
	else if (X509_check_private_key(leaf, private_key) != 1)
		buf_addf(reason, "%s: is not the key of the certificate in %s",
		    s->tls_key_file, s->tls_cert_file);
	else if (ASN1_TIME_diff(days, &seconds, NULL,
		     X509_get0_notAfter(leaf)) != 1)
		add_error(reason, s->tls_cert_file);
	else if (*days == 0 && seconds < 0)
		*days = -1;
	X509_free(leaf);
	EVP_PKEY_free(private_key);
}

/* Reads the pair and appends key and chain to *chain. */
static void
load_pair(const struct settings *s, struct buf *chain, int *days,
    struct buf *reason)
{
	BUF(cert, PEM_MAX);
	BUF(key, PEM_MAX);

	if (file_read(s->tls_cert_file, &cert, NULL) == -1)
		buf_addf(reason, "%s: %s", s->tls_cert_file, strerror(errno));
	else if (file_read(s->tls_key_file, &key, NULL) == -1)
		buf_addf(reason, "%s: %s", s->tls_key_file, strerror(errno));
	else
		check_pair(s, &cert, &key, days, reason);
	buf_add(chain, buf_text(&key), key.len);
	buf_addc(chain, '\n');
	buf_add(chain, buf_text(&cert), cert.len);
}

/* All of a certificate but its signature: RFC 5280 section 4.1. */
static bool
fill_cert(X509 *cert, const char *hostname, EVP_PKEY *key)
{
	BUF(value, 300); /* a host's name has 253 octets at most */
	X509_EXTENSION *names;
	const unsigned char *name;
	bool result;

	buf_addf(&value, "DNS:%s", hostname);
	names = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name,
	    buf_text(&value));
	/* A common name has 64 octets at most. */
	name = (const unsigned char *)(strlen(hostname) <= 64 ? hostname
							      : "swiftdrop");
	result = names != NULL && X509_add_ext(cert, names, -1) == 1 &&
		 X509_set_version(cert, X509_VERSION_3) == 1 &&
		 ASN1_INTEGER_set_int64(X509_get_serialNumber(cert),
		     (int64_t)time(NULL)) == 1 &&
		 X509_gmtime_adj(X509_getm_notBefore(cert), -300) != NULL &&
		 X509_time_adj_ex(X509_getm_notAfter(cert), LIFE_DAYS, 0,
		     NULL) != NULL &&
		 X509_set_pubkey(cert, key) == 1 &&
		 X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN",
		     MBSTRING_ASC, name, -1, -1, 0) == 1 &&
		 X509_set_issuer_name(cert, X509_get_subject_name(cert)) == 1;
	X509_EXTENSION_free(names);
	return result;
}

/* A key (ECDSA, P-256) and a certificate for the host, signed by itself. */
static void
make_pair(const char *hostname, struct buf *chain, struct buf *reason)
{
	EVP_PKEY *key;
	X509 *cert;
	BIO *bio;
	char *data;
	long len;

	key = EVP_EC_gen("P-256");
	cert = X509_new();
	bio = BIO_new(BIO_s_mem());
	if (key != NULL && cert != NULL && bio != NULL &&
	    fill_cert(cert, hostname, key) &&
	    X509_sign(cert, key, EVP_sha256()) != 0 &&
	    PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) ==
		1 &&
	    PEM_write_bio_X509(bio, cert) == 1) {
		len = BIO_get_mem_data(bio, &data);
		buf_add(chain, data, (size_t)len);
	} else {
		add_error(reason, "self-signed certificate");
	}
	BIO_free(bio);
	X509_free(cert);
	EVP_PKEY_free(key);
}

/* Says that the certificate has ended or soon will; of an old one, daily. */
static void
remind(const char *cert_file, int days, bool is_new)
{
	static int64_t next_ms;

	if (days > WARN_DAYS || (!is_new && clock_left_ms(next_ms) > 0))
		return;
	next_ms = clock_ms() + REMIND_MS;
	if (days < 0)
		logs_say("error: TLS_CERT_FILE: %s has expired", cert_file);
	else
		logs_say("warning: TLS_CERT_FILE: %s expires in %d days",
		    cert_file, days);
}

bool
certificate_install(const struct settings *s, struct buf *faults)
{
	BUF(old, 2 * PEM_MAX + 1);
	BUF(chain, 2 * PEM_MAX + 1);
	BUF(reason, 4096);
	int days = WARN_DAYS + 1;
	bool is_first = file_read(CHAIN_PATH, &old, NULL) == -1, is_new;

	/* Half a pair is a fault that was told already. */
	if ((s->tls_cert_file == NULL) != (s->tls_key_file == NULL) ||
	    (s->tls_cert_file == NULL && !is_first))
		return false;
	if (s->tls_cert_file == NULL)
		make_pair(s->myhostname, &chain, &reason);
	else
		load_pair(s, &chain, &days, &reason);
	ERR_clear_error();
	is_new = strcmp(buf_text(&old), buf_text(&chain)) != 0;
	if (reason.len == 0 && is_new &&
	    files_write(CHAIN_PATH, 0600, 0, &chain) == -1)
		buf_addf(&reason, "%s: %s", CHAIN_PATH, strerror(errno));
	buf_fail(faults, reason.error);
	if (reason.len > 0 || reason.error != 0) {
		environment_fault(faults, "TLS_CERT_FILE", "%s%s",
		    buf_text(&reason),
		    is_first ? "" : "; the old one stays in use");
		return false;
	}
	if (s->tls_cert_file == NULL)
		logs_say("warning: TLS_CERT_FILE: is not set, a self-signed "
			 "certificate serves for TLS");
	else if (is_new && !is_first)
		logs_say("TLS_CERT_FILE: the renewed certificate is in use");
	remind(s->tls_cert_file, days, is_new);
	return is_new;
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The server's certificate.  Postfix would take a pair that does not belong
 * together, half written perhaps while it is renewed, and go on without TLS;
 * so it gets copies of pairs that were looked at here.
 */
#include <sys/stat.h>

#include <errno.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "certificate.h"
#include "file.h"
#include "files.h"
#include "logs.h"
#include "paths.h"

#include "banned.h"

enum {
	PEM_MAX = 256 * 1024, /* octets of a file; a chain is some KiB */
	LIFE_DAYS = 3650,     /* nobody renews a certificate made here */
	WARN_DAYS = 14
};

/* Otherwise OpenSSL asks on the terminal. */
static int
no_passphrase(char *text, int size, int rwflag, void *context)
{
	(void)text;
	(void)size;
	(void)rwflag;
	(void)context;
	return -1;
}

/* The first certificate of the chain, which is the server's. */
static X509 *
parse_cert(const struct buf *text)
{
	BIO *bio;
	X509 *cert;

	bio = BIO_new_mem_buf(buf_text(text), (int)text->len);
	if (bio == NULL)
		return NULL;
	cert = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);
	BIO_free(bio);
	return cert;
}

static EVP_PKEY *
parse_key(const struct buf *text)
{
	BIO *bio;
	EVP_PKEY *key;

	bio = BIO_new_mem_buf(buf_text(text), (int)text->len);
	if (bio == NULL)
		return NULL;
	key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
	BIO_free(bio);
	return key;
}

static void
add_error(struct buf *reason, const char *what)
{
	const char *text;

	text = ERR_reason_error_string(ERR_get_error());
	buf_addf(reason, "%s: %s", what, text == NULL ? "failed" : text);
}

/* What is wrong with a pair; *days becomes those that it has left. */
static void
check_pair(const struct certificate *c, const struct buf *cert,
    const struct buf *key, int *days, struct buf *reason)
{
	EVP_PKEY *private_key;
	X509 *leaf;
	int seconds;

	leaf = parse_cert(cert);
	private_key = parse_key(key);
	if (leaf == NULL)
		buf_addf(reason, "%s: holds no certificate in PEM",
		    c->cert_file);
	else if (private_key == NULL)
		buf_addf(reason,
		    "%s: holds no private key in PEM without a passphrase",
		    c->key_file);
	else if (X509_check_private_key(leaf, private_key) != 1)
		buf_addf(reason, "%s: is not the key of the certificate in %s",
		    c->key_file, c->cert_file);
	else if (ASN1_TIME_diff(days, &seconds, NULL,
		     X509_get0_notAfter(leaf)) != 1)
		add_error(reason, c->cert_file);
	else if (*days == 0 && seconds < 0)
		*days = -1;
	X509_free(leaf);
	EVP_PKEY_free(private_key);
}

static void
note(struct certificate *c)
{
	const char *const files[] = { c->cert_file, c->key_file };
	struct stat st;
	size_t i;

	for (i = 0; i < 2; i++) {
		if (stat(files[i], &st) == -1)
			st = (struct stat){ .st_ino = 0 };
		c->seen[i] = st.st_mtim;
		c->inodes[i] = st.st_ino;
	}
}

bool
certificate_has_changed(const struct certificate *c)
{
	struct certificate now = *c;
	size_t i;

	note(&now);
	for (i = 0; i < 2; i++)
		if (now.inodes[i] != c->inodes[i] ||
		    now.seen[i].tv_sec != c->seen[i].tv_sec ||
		    now.seen[i].tv_nsec != c->seen[i].tv_nsec)
			return true;
	return false;
}

/* Reads the pair and appends key and chain to *chain. */
static void
load_pair(struct certificate *c, struct buf *chain, int *days,
    struct buf *reason)
{
	BUF(cert, PEM_MAX);
	BUF(key, PEM_MAX);

	/* Before they are read: what changes meanwhile is read once more. */
	note(c);
	if (file_read(c->cert_file, &cert, NULL) == -1)
		buf_addf(reason, "%s: %s", c->cert_file, strerror(errno));
	else if (file_read(c->key_file, &key, NULL) == -1)
		buf_addf(reason, "%s: %s", c->key_file, strerror(errno));
	else
		check_pair(c, &cert, &key, days, reason);
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

int
certificate_install(struct certificate *c, const char *hostname,
    struct buf *reason)
{
	BUF(chain, 2 * PEM_MAX + 1);
	size_t before = reason->len;
	int days;

	days = WARN_DAYS + 1;
	if (c->cert_file == NULL)
		make_pair(hostname, &chain, reason);
	else
		load_pair(c, &chain, &days, reason);
	ERR_clear_error();
	if (reason->len == before && reason->error == 0 &&
	    files_write(CHAIN_PATH, 0600, 0, &chain) == -1)
		buf_addf(reason, "%s: %s", CHAIN_PATH, strerror(errno));
	if (reason->len != before || reason->error != 0)
		return -1;
	if (c->cert_file == NULL)
		logs_say("warning: TLS_CERT_FILE: is not set, a self-signed "
			 "certificate serves for TLS");
	else if (days < 0)
		logs_say("error: TLS_CERT_FILE: %s has expired", c->cert_file);
	else if (days <= WARN_DAYS)
		logs_say("warning: TLS_CERT_FILE: %s expires in %d days",
		    c->cert_file, days);
	return 0;
}

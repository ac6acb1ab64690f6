/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The server's certificate.  Postfix would take a pair that does not belong
 * together, half written perhaps while it is renewed, and go on without TLS;
 * so it gets copies of pairs that were looked at here.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "certificate.h"
#include "environment.h"

#include "banned.h"

enum {
	PEM_MAX = 256 * 1024, /* octets of a file; a chain is some KiB */
	LIFE_DAYS = 3650      /* nobody renews a certificate made here */
};

static int read_pem(const char *path, struct buf *text, struct buf *reason);
static int check_pair(const struct certificate *c, const struct buf *cert,
    const struct buf *key, int *days, struct buf *reason);
static X509 *parse_cert(const struct buf *text);
static EVP_PKEY *parse_key(const struct buf *text);
static int no_passphrase(char *text, int size, int rwflag, void *context);
static void note(struct certificate *c);
static X509 *make_cert(const char *hostname, EVP_PKEY *key);
static int fill_cert(X509 *cert, const char *hostname, EVP_PKEY *key);
static int add_name(X509 *cert, const char *hostname);
static int add_pem(const X509 *cert, const EVP_PKEY *key, struct buf *chain);
static void add_error(struct buf *reason, const char *what);

int
certificate_load(struct certificate *c, struct buf *chain, int *days,
    struct buf *reason)
{
	struct buf cert, key;
	int result;

	buf_init(&cert, PEM_MAX);
	buf_init(&key, PEM_MAX);
	/* Before they are read: what changes meanwhile is read once more. */
	note(c);
	result = read_pem(c->cert_file, &cert, reason);
	if (result == 0)
		result = read_pem(c->key_file, &key, reason);
	if (result == 0)
		result = check_pair(c, &cert, &key, days, reason);
	if (result == 0 &&
	    (buf_add(chain, buf_text(&key), key.len) == -1 ||
		buf_add_octet(chain, '\n') == -1 ||
		buf_add(chain, buf_text(&cert), cert.len) == -1)) {
		(void)buf_add_text(reason, strerror(errno));
		result = -1;
	}
	buf_free(&cert);
	buf_free(&key);
	return result;
}

static int
read_pem(const char *path, struct buf *text, struct buf *reason)
{
	if (environment_read_file(path, text) == 0)
		return 0;
	(void)buf_addf(reason, "%s: %s", path, strerror(errno));
	return -1;
}

static int
check_pair(const struct certificate *c, const struct buf *cert,
    const struct buf *key, int *days, struct buf *reason)
{
	EVP_PKEY *private_key;
	X509 *leaf;
	int result, seconds;

	result = -1;
	seconds = 0;
	leaf = parse_cert(cert);
	private_key = parse_key(key);
	if (leaf == NULL)
		(void)buf_addf(reason, "%s: holds no certificate in PEM",
		    c->cert_file);
	else if (private_key == NULL)
		(void)buf_addf(reason,
		    "%s: holds no private key in PEM without a passphrase",
		    c->key_file);
	else if (X509_check_private_key(leaf, private_key) != 1)
		(void)buf_addf(reason,
		    "%s: is not the key of the certificate in %s", c->key_file,
		    c->cert_file);
	else if (ASN1_TIME_diff(days, &seconds, NULL,
		     X509_get0_notAfter(leaf)) != 1)
		add_error(reason, c->cert_file);
	else
		result = 0;
	if (result == 0 && *days == 0 && seconds < 0)
		*days = -1;
	X509_free(leaf);
	EVP_PKEY_free(private_key);
	ERR_clear_error();
	return result;
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

static void
note(struct certificate *c)
{
	struct stat st;

	*c =
	    (struct certificate){ c->cert_file, c->key_file, { { 0 } }, { 0 } };
	if (stat(c->cert_file, &st) == 0) {
		c->seen[0] = st.st_mtim;
		c->inodes[0] = st.st_ino;
	}
	if (stat(c->key_file, &st) == 0) {
		c->seen[1] = st.st_mtim;
		c->inodes[1] = st.st_ino;
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

int
certificate_make(const char *hostname, struct buf *chain, struct buf *reason)
{
	EVP_PKEY *key;
	X509 *cert;
	int result;

	result = -1;
	cert = NULL;
	key = EVP_EC_gen("P-256");
	if (key != NULL)
		cert = make_cert(hostname, key);
	if (cert != NULL)
		result = add_pem(cert, key, chain);
	if (result == -1)
		add_error(reason, "self-signed certificate");
	X509_free(cert);
	EVP_PKEY_free(key);
	return result;
}

static X509 *
make_cert(const char *hostname, EVP_PKEY *key)
{
	X509 *cert;

	cert = X509_new();
	if (cert == NULL)
		return NULL;
	if (fill_cert(cert, hostname, key) == 0 &&
	    X509_sign(cert, key, EVP_sha256()) != 0)
		return cert;
	X509_free(cert);
	return NULL;
}

/* RFC 5280 section 4.1. */
static int
fill_cert(X509 *cert, const char *hostname, EVP_PKEY *key)
{
	const unsigned char *name;

	/* A common name has 64 octets at most; the whole name comes below. */
	name = (const unsigned char *)(strlen(hostname) <= 64 ? hostname
							      : "swiftdrop");
	if (X509_set_version(cert, X509_VERSION_3) != 1 ||
	    ASN1_INTEGER_set_int64(X509_get_serialNumber(cert),
		(int64_t)time(NULL)) != 1 ||
	    X509_gmtime_adj(X509_getm_notBefore(cert), -300) == NULL ||
	    X509_time_adj_ex(X509_getm_notAfter(cert), LIFE_DAYS, 0, NULL) ==
		NULL ||
	    X509_set_pubkey(cert, key) != 1 ||
	    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN",
		MBSTRING_ASC, name, -1, -1, 0) != 1 ||
	    X509_set_issuer_name(cert, X509_get_subject_name(cert)) != 1)
		return -1;
	return add_name(cert, hostname);
}

static int
add_name(X509 *cert, const char *hostname)
{
	X509_EXTENSION *extension;
	char value[300];
	int result;

	(void)snprintf(value, sizeof(value), "DNS:%s", hostname);
	extension =
	    X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, value);
	if (extension == NULL)
		return -1;
	result = X509_add_ext(cert, extension, -1) == 1 ? 0 : -1;
	X509_EXTENSION_free(extension);
	return result;
}

static int
add_pem(const X509 *cert, const EVP_PKEY *key, struct buf *chain)
{
	BIO *bio;
	char *data;
	long len;
	int result;

	bio = BIO_new(BIO_s_mem());
	if (bio == NULL)
		return -1;
	result = -1;
	if (PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) ==
		1 &&
	    PEM_write_bio_X509(bio, cert) == 1) {
		len = BIO_get_mem_data(bio, &data);
		result = buf_add(chain, data, (size_t)len);
	}
	BIO_free(bio);
	return result;
}

static void
add_error(struct buf *reason, const char *what)
{
	const char *text;

	text = ERR_reason_error_string(ERR_get_error());
	(void)buf_addf(reason, "%s: %s", what, text == NULL ? "failed" : text);
	ERR_clear_error();
}

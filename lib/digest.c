/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * MD5, SHA-256 and HMAC as lower-case hex, by libcrypto.
 */
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#include "digest.h"

#include "banned.h"

/*
 * A library context of our own, made once: what the administrator's openssl.cnf
 * says is for TLS, and with its default_properties = fips=yes there would be no
 * MD5 for the ETag.  Nor is anything initialised that digests do not need: the
 * tables of names and texts are two thirds of what a small mail costs; http.c
 * brings them where TLS needs them.
 */
static OSSL_LIB_CTX *
own_context(void)
{
	static OSSL_LIB_CTX *context;

	if (context == NULL &&
	    OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CRYPTO_STRINGS |
				    OPENSSL_INIT_NO_ADD_ALL_CIPHERS |
				    OPENSSL_INIT_NO_ADD_ALL_DIGESTS |
				    OPENSSL_INIT_NO_LOAD_CONFIG |
				    OPENSSL_INIT_NO_ATEXIT,
		NULL) == 1)
		context = OSSL_LIB_CTX_new();
	return context;
}

void *
digest_open(const char *name)
{
	EVP_MD_CTX *digest = NULL;
	EVP_MD *type = NULL;

	if (own_context() != NULL)
		type = EVP_MD_fetch(own_context(), name, NULL);
	if (type != NULL)
		digest = EVP_MD_CTX_new();
	if (digest != NULL && EVP_DigestInit_ex2(digest, type, NULL) != 1) {
		EVP_MD_CTX_free(digest);
		digest = NULL;
	}
	EVP_MD_free(type);
	return digest;
}

void
digest_add(void *digest, const void *data, size_t len)
{
	/* Fails for a finished context alone. */
	(void)EVP_DigestUpdate(digest, data, len);
}

static void
write_hex(const unsigned char *octets, size_t len, char *hex)
{
	static const char digits[] = "0123456789abcdef";
	size_t i;

	for (i = 0; i < len; i++) {
		*hex++ = digits[octets[i] >> 4];
		*hex++ = digits[octets[i] & 15];
	}
	*hex = '\0';
}

void
digest_hex(void *digest, char *hex)
{
	unsigned char octets[EVP_MAX_MD_SIZE];
	unsigned int len = 0;

	if (digest == NULL)
		return;
	if (hex != NULL && EVP_DigestFinal_ex(digest, octets, &len) == 1)
		write_hex(octets, len, hex);
	EVP_MD_CTX_free(digest);
}

void
digest_hmac(const char *name, const char *key, const struct buf *text,
    struct buf *hex)
{
	unsigned char octets[EVP_MAX_MD_SIZE];
	char line[2 * EVP_MAX_MD_SIZE + 1];
	size_t len = 0;

	if (own_context() == NULL ||
	    EVP_Q_mac(own_context(), "HMAC", NULL, name, NULL, key, strlen(key),
		(const unsigned char *)buf_text(text), text->len, octets,
		sizeof(octets), &len) == NULL) {
		buf_fail(hex, ENOMEM);
		return;
	}
	write_hex(octets, len, line);
	buf_adds(hex, line);
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * MD5, SHA-256 and HMAC as lower-case hex, by libcrypto.
 */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "digest.h"

#include "banned.h"

static void *
begin(const EVP_MD *type)
{
	EVP_MD_CTX *context;

	context = EVP_MD_CTX_new();
	if (context != NULL && EVP_DigestInit_ex(context, type, NULL) == 1)
		return context;
	EVP_MD_CTX_free(context);
	return NULL;
}

void *
digest_md5(void)
{
	return begin(EVP_md5());
}

void *
digest_sha256(void)
{
	return begin(EVP_sha256());
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
	const EVP_MD *type;
	unsigned int len = 0;

	type = strcmp(name, "sha1") == 0     ? EVP_sha1()
	       : strcmp(name, "sha512") == 0 ? EVP_sha512()
					     : EVP_sha256();
	(void)HMAC(type, key, (int)strlen(key),
	    (const unsigned char *)buf_text(text), text->len, octets, &len);
	write_hex(octets, len, line);
	buf_adds(hex, line);
}

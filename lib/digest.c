/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * MD5, SHA-256 and HMAC as lower-case hex, by libcrypto.
 *
 * By those of its functions that know nothing of providers.  Their successors
 * make every digest of a provider ready for the first one that is wanted, which
 * was a third of what a small mail cost; and what the administrator's
 * openssl.cnf says is for TLS: with its default_properties = fips=yes there
 * would be no MD5 for the ETag.
 */
#define OPENSSL_SUPPRESS_DEPRECATED

#include <openssl/md5.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "digest.h"
#include "text.h"

#include "banned.h"

enum kind {
	KIND_MD5,
	KIND_SHA1,
	KIND_SHA256,
	KIND_SHA512
};

static const struct {
	const char *name;
	size_t size, block; /* octets of a result, and that HMAC fills up */
} kinds[] = {
	[KIND_MD5] = { "MD5", MD5_DIGEST_LENGTH, MD5_CBLOCK },
	[KIND_SHA1] = { "SHA1", SHA_DIGEST_LENGTH, SHA_CBLOCK },
	[KIND_SHA256] = { "SHA256", SHA256_DIGEST_LENGTH, SHA256_CBLOCK },
	[KIND_SHA512] = { "SHA512", SHA512_DIGEST_LENGTH, SHA512_CBLOCK },
};

struct digest {
	enum kind kind;
	union {
		MD5_CTX md5;
		SHA_CTX sha1;
		SHA256_CTX sha256;
		SHA512_CTX sha512;
	};
};

/* None of libcrypto's functions here can fail. */
static void
begin(struct digest *d, enum kind kind)
{
	d->kind = kind;
	if (kind == KIND_MD5)
		(void)MD5_Init(&d->md5);
	else if (kind == KIND_SHA1)
		(void)SHA1_Init(&d->sha1);
	else if (kind == KIND_SHA256)
		(void)SHA256_Init(&d->sha256);
	else
		(void)SHA512_Init(&d->sha512);
}

void
digest_add(struct digest *d, const void *data, size_t len)
{
	if (d->kind == KIND_MD5)
		(void)MD5_Update(&d->md5, data, len);
	else if (d->kind == KIND_SHA1)
		(void)SHA1_Update(&d->sha1, data, len);
	else if (d->kind == KIND_SHA256)
		(void)SHA256_Update(&d->sha256, data, len);
	else
		(void)SHA512_Update(&d->sha512, data, len);
}

static void
finish(struct digest *d, unsigned char *octets)
{
	if (d->kind == KIND_MD5)
		(void)MD5_Final(octets, &d->md5);
	else if (d->kind == KIND_SHA1)
		(void)SHA1_Final(octets, &d->sha1);
	else if (d->kind == KIND_SHA256)
		(void)SHA256_Final(octets, &d->sha256);
	else
		(void)SHA512_Final(octets, &d->sha512);
}

/* The kind of a name; MD5 for one that is not known. */
static enum kind
kind_of(const char *name)
{
	size_t i = COUNT(kinds) - 1;

	while (i > 0 && strcasecmp(kinds[i].name, name) != 0)
		i--;
	return (enum kind)i;
}

struct digest *
digest_open(const char *name)
{
	struct digest *d = malloc(sizeof(*d));

	if (d != NULL)
		begin(d, kind_of(name));
	return d;
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
digest_hex(struct digest *d, char *hex)
{
	unsigned char octets[SHA512_DIGEST_LENGTH];

	if (d != NULL && hex != NULL) {
		finish(d, octets);
		write_hex(octets, kinds[d->kind].size, hex);
	}
	free(d);
}

/* The digest of two texts, one behind the other; octets may be the second. */
static void
digest_of(enum kind kind, const void *first, size_t first_len,
    const void *second, size_t second_len, unsigned char *octets)
{
	struct digest d;

	begin(&d, kind);
	digest_add(&d, first, first_len);
	digest_add(&d, second, second_len);
	finish(&d, octets);
	explicit_bzero(&d, sizeof(d));
}

/* RFC 2104 */
void
digest_hmac(const char *name, const char *key, const struct buf *text,
    struct buf *hex)
{
	enum kind kind = kind_of(name);
	unsigned char octets[SHA512_DIGEST_LENGTH], pad[SHA512_CBLOCK] = { 0 };
	char line[2 * SHA512_DIGEST_LENGTH + 1];
	size_t i, len = strlen(key), size = kinds[kind].size;

	if (len > kinds[kind].block)
		digest_of(kind, key, len, "", 0, pad);
	for (i = 0; i < len && len <= kinds[kind].block; i++)
		pad[i] = (unsigned char)key[i];
	for (i = 0; i < kinds[kind].block; i++)
		pad[i] ^= 0x36;
	digest_of(kind, pad, i, buf_text(text), text->len, octets);
	for (i = 0; i < kinds[kind].block; i++)
		pad[i] ^= 0x36 ^ 0x5c;
	digest_of(kind, pad, i, octets, size, octets);
	explicit_bzero(pad, sizeof(pad));
	write_hex(octets, size, line);
	buf_adds(hex, line);
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * MD5, SHA-256 and HMAC as lower-case hex.
 */
#ifndef DIGEST_H
#define DIGEST_H

#include <stddef.h>

#include "buf.h"

enum {
	DIGEST_MD5_HEX = 33, /* with the NUL */
	DIGEST_SHA256_HEX = 65
};

struct digest; /* under way */

/* "MD5" or "SHA256"; NULL when there is no memory.  digest_hex() ends it. */
struct digest *digest_open(const char *name);
void digest_add(struct digest *d, const void *data, size_t len);

/* Writes the result as hex and frees the digest; either may be NULL. */
void digest_hex(struct digest *d, char *hex);

/* Appends the HMAC of text by "sha1", "sha256" or "sha512" as hex. */
void digest_hmac(const char *name, const char *key, const struct buf *text,
    struct buf *hex);

#endif

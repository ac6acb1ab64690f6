/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The server's certificate: a mounted pair that is checked before Postfix
 * sees it, or one made here.
 */
#ifndef CERTIFICATE_H
#define CERTIFICATE_H

#include <sys/stat.h>

#include <stdbool.h>
#include <stdint.h>

#include "buf.h"

/* Where a pair comes from, and which version of it was seen last. */
struct certificate {
	const char *cert_file;   /* borrowed; NULL for a self-signed one */
	const char *key_file;    /* borrowed */
	struct timespec seen[2]; /* of the files */
	ino_t inodes[2];
};

enum {
	CERTIFICATE_WARN_DAYS = 14
};

/*
 * Reads the pair and appends key and chain in PEM to *chain (for Postfix's
 * smtpd_tls_chain_files); *days becomes the days until it ends, negative when
 * it ended.  Returns 0, or -1 with the reason appended to *reason: a file
 * that cannot be read, no PEM, a key that is not the certificate's.
 */
int certificate_load(struct certificate *c, struct buf *chain, int *days,
    struct buf *reason);

/* Whether one of the files is another than certificate_load() saw. */
bool certificate_has_changed(const struct certificate *c);

/*
 * Makes a key (ECDSA, P-256) and a certificate for the host, signed by
 * itself, and appends both in PEM to *chain.  Returns 0, or -1 with the
 * reason appended to *reason.
 */
int certificate_make(const char *hostname, struct buf *chain,
    struct buf *reason);

#endif

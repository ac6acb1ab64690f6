/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The server's certificate: a mounted pair that is checked before Postfix
 * sees it, or one made here.
 */
#ifndef CERTIFICATE_H
#define CERTIFICATE_H

#include <sys/types.h>

#include <stdbool.h>
#include <time.h>

#include "buf.h"

/* Where a pair comes from, and which version of it was seen last. */
struct certificate {
	const char *cert_file;   /* borrowed; NULL for a self-signed one */
	const char *key_file;    /* borrowed */
	struct timespec seen[2]; /* of the files */
	ino_t inodes[2];
};

/*
 * Writes key and chain of c to CHAIN_PATH (for Postfix's
 * smtpd_tls_chain_files), or a pair made for the host and signed by itself
 * where c names no files, and logs what is to be said about it: that it is
 * self-signed, has ended or soon will.  Returns 0, or -1 with the reason
 * appended to *reason (a file that cannot be read, no PEM, a key that is not
 * the certificate's); CHAIN_PATH is then as it was.
 */
int certificate_install(struct certificate *c, const char *hostname,
    struct buf *reason);

/* Whether one of the files is another than certificate_install() saw. */
bool certificate_has_changed(const struct certificate *c);

#endif

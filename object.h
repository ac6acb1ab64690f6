/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The object that a message becomes: its name and its metadata.
 */
#ifndef OBJECT_H
#define OBJECT_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "buf.h"
#include "smtp.h"

enum {
	OBJECT_NAME_MAX = 1024,    /* octets; Swift max_object_name_length */
	OBJECT_VALUE_MAX = 256,    /* octets; Swift max_meta_value_length */
	OBJECT_METADATA_MAX = 4096 /* octets of names and values; Swift
				      max_meta_overall_size */
};

/*
 * Appends a new Maildir name (cr.yp.to/proto/maildir.html) for a message of
 * size octets whose data ended at when (CLOCK_REALTIME).  Each call makes
 * another name.  Returns 0, or -1 with errno when there is no randomness.
 */
int object_name(struct buf *name, const struct timespec *when, int64_t size);

/* The recipients of one account, as indexes into a transaction. */
struct object_envelope {
	const struct transaction *transaction; /* borrowed */
	const size_t *recipients;              /* borrowed */
	size_t nrecipients;
};

/*
 * Appends what a fingerprint hashes before the content: the reverse-path and
 * the recipients in lower case and sorted, each with LF, and LF.  Returns 0
 * or -1 with errno ENOMEM or EMSGSIZE.
 */
int object_fingerprint_head(struct buf *head,
    const struct object_envelope *envelope);

/*
 * Appends the metadata as header lines "Name: value", each ended by LF, in
 * the order of their importance and within Swift's limits; what does not fit
 * is left out and said so.  sha256 and fingerprint are lower-case hex.
 * Returns 0 or -1 with errno.
 */
int object_metadata(struct buf *lines, const struct object_envelope *envelope,
    const char *sha256, const char *fingerprint);

/* A client's address without the "IPv6:" of XFORWARD. */
const char *object_client_addr(const struct transaction *t);

#endif

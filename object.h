/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The object that a message becomes: its name and its metadata.
 */
#ifndef OBJECT_H
#define OBJECT_H

#include <time.h>

#include "buf.h"
#include "digest.h"
#include "smtp.h"

enum {
	OBJECT_NAME_MAX = 1024,     /* octets; Swift max_object_name_length */
	OBJECT_VALUE_MAX = 256,     /* octets; Swift max_meta_value_length */
	OBJECT_METADATA_MAX = 4096, /* octets of names and values; Swift
				       max_meta_overall_size */
	OBJECT_METADATA_FREE = 256, /* of them left to who reads it */
	FACT_MAX = 1000 /* octets; RFC 5322 section 2.1.1 has 998 for a line */
};

/* What else is known of a message, in the order of its importance. */
enum fact {
	FACT_MESSAGE_ID,
	FACT_VERDICT, /* and what follows: section "Verdicts" of swiftdrop(8) */
	FACT_SCORE,
	FACT_SPF,
	FACT_DKIM,
	FACT_DMARC,
	FACT_ARC,
	FACT_VIRUS,
	FACTS
};

/* A transaction as one account sees it. */
struct envelope {
	const struct transaction *transaction; /* borrowed */
	struct recipient **recipients;         /* owned by its user */
	size_t n;
};

/*
 * Appends a new Maildir name (cr.yp.to/proto/maildir.html) for a message of
 * size octets whose data ended at when (CLOCK_REALTIME).  Each call makes
 * another name.
 */
void object_name(struct buf *name, const struct timespec *when, int64_t size);

/*
 * Writes what tells that a message is delivered again: the SHA-256 of the
 * reverse-path and LF, the recipients in lower case and sorted, each with LF,
 * LF, and content, the hex SHA-256 that message_content_hex() gives.  Returns
 * 0, or -1 without memory.
 */
int object_fingerprint(const struct envelope *e, const char *content,
    char hex[DIGEST_SHA256_HEX]);

/*
 * Appends the metadata as header lines "Name: value", each ended by LF, in
 * the order of their importance and within Swift's limits; what does not fit
 * is left out, and said so of a recipient.  sha256 and fingerprint are
 * lower-case hex; a fact that is empty is left out.
 */
void object_metadata(struct buf *lines, const struct envelope *e,
    const char *sha256, const char *fingerprint, const struct buf facts[FACTS]);

/* A client's address without the "IPv6:" of XFORWARD, "" for unknown. */
const char *object_client_addr(const struct transaction *t);

#endif

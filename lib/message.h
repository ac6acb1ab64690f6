/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One message: its octets, in memory or in an unlinked file, and the digests
 * that are taken while it arrives.
 */
#ifndef MESSAGE_H
#define MESSAGE_H

#include <sys/types.h>

#include <stdint.h>

#include "buf.h"
#include "digest.h"

enum {
	MESSAGE_MEMORY = 256 * 1024 /* octets; above that a file takes over */
};

struct message {
	const char *spool_directory; /* borrowed */
	int64_t limit;               /* octets */
	int64_t size;                /* octets received */
	struct buf memory;
	int fd;       /* of the unlinked file, or -1 */
	bool too_big; /* the limit was passed; nothing is kept */
	int fault;    /* errno of the first failure, nothing is kept; or 0 */
	struct digest *md5, *sha256; /* owned; until message_finish() */
	char md5_hex[DIGEST_MD5_HEX];
	char sha256_hex[DIGEST_SHA256_HEX];
};

/*
 * Prepares an empty message in the caller's storage; spool_directory is
 * borrowed.  Failures are kept in m->fault.
 */
void message_open(struct message *m, const char *spool_directory,
    int64_t limit);

/*
 * Takes octets of content.  Failures are kept in m->fault and m->too_big; the
 * message goes on being counted.  Signature of smtp_sink_fn; context is a
 * message.
 */
void message_add(void *context, const char *text, size_t len);

/* Ends the message: the digests are there.  Returns 0, or -1 (m->fault). */
int message_finish(struct message *m);

/*
 * Reads up to len octets at offset into data.  Returns how many, 0 at the end,
 * or -1 with errno.  Signature of http_read_fn; context is a message.
 */
ssize_t message_read(const void *context, int64_t offset, void *data,
    size_t len);

/*
 * The SHA-256 of the content without its first header field, folded lines
 * included, when that is Received: the rest is the same at each delivery.
 * Returns 0, or -1 with errno.
 */
int message_content_hex(const struct message *m, char hex[DIGEST_SHA256_HEX]);

/*
 * Appends the first Message-ID field of the header (RFC 5322 section 3.6.4),
 * without blanks and folding; nothing where there is none, or where it is
 * longer than *id may be or further than 128 KiB from the beginning.
 */
void message_id(const struct message *m, struct buf *id);

/* Frees the memory and the file; takes one that is all zero but for fd -1. */
void message_close(struct message *m);

/* Tries to create a file as a large message would.  0, or -1 with errno. */
int message_try_spool(const char *spool_directory);

#endif

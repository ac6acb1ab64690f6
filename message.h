/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One message: its octets, in memory or in an unlinked file, and the digests
 * that are taken while it arrives.
 */
#ifndef MESSAGE_H
#define MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "buf.h"

enum {
	MESSAGE_MEMORY = 256 * 1024, /* octets; above that a file takes over */
	MESSAGE_MD5_HEX = 33,        /* lower-case hex and NUL */
	MESSAGE_SHA256_HEX = 65
};

struct fingerprint; /* a digest of the message as one account sees it */

/* Where the search for a leading Received field stands. */
enum received_state {
	RECEIVED_MATCHING,
	RECEIVED_INSIDE, /* in the field that is left out */
	RECEIVED_LF,     /* after a line end in it: it may be folded */
	RECEIVED_PASSED  /* everything counts from here on */
};

struct message {
	const char *spool_directory; /* borrowed */
	int64_t limit;               /* octets */
	int64_t size;                /* octets received */
	struct buf memory;
	int fd;       /* of the unlinked file, or -1 */
	bool too_big; /* the limit was passed; nothing is kept */
	int fault;    /* errno of the first failure, nothing is kept; or 0 */
	void *md5;    /* owned; EVP_MD_CTX */
	void *sha256; /* owned; EVP_MD_CTX */
	struct fingerprint *fingerprints; /* owned */
	size_t nfingerprints;
	enum received_state received; /* of what fingerprints leave out */
	char matched[10];
	size_t nmatched;
	char md5_hex[MESSAGE_MD5_HEX];
	char sha256_hex[MESSAGE_SHA256_HEX];
};

/*
 * Prepares an empty message in the caller's storage; needs libcrypto
 * (LAZY_CRYPTO).  spool_directory is borrowed.  skip_received: fingerprints
 * leave out the first header field when it is Received.  Failures are kept in
 * m->fault; message_close() is needed in every case.
 */
void message_open(struct message *m, const char *spool_directory, int64_t limit,
    bool skip_received);

/*
 * Adds a fingerprint that begins with len octets at head; to be called before
 * the first octet.  Its number is m->nfingerprints before the call.
 */
void message_add_fingerprint(struct message *m, const char *head, size_t len);

/*
 * Takes octets of content.  Failures are kept in m->fault and m->too_big; the
 * message goes on being counted.  Signature of smtp_sink_fn; context is a
 * message.
 */
void message_add(void *context, const char *text, size_t len);

/* Ends the message: the digests are there.  Returns 0, or -1 (m->fault). */
int message_finish(struct message *m);

/* Copies the i-th fingerprint as lower-case hex. */
void message_fingerprint(const struct message *m, size_t i,
    char hex[MESSAGE_SHA256_HEX]);

/*
 * Reads up to len octets at offset into data.  Returns how many, 0 at the end,
 * or -1 with errno.
 */
ssize_t message_read(const struct message *m, int64_t offset, void *data,
    size_t len);

/* Frees the memory and the file; takes a message that was never opened when
 * it is all zero but for fd, which must be -1. */
void message_close(struct message *m);

/*
 * Tries to create a file as a large message would.  Returns 0 or -1 with
 * errno.
 */
int message_try_spool(const char *spool_directory);

#endif

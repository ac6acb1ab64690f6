/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Bounded CRLF lines and runs of octets over a pair of descriptors, each
 * wait with a deadline.  Serves both sides: the client before us and the
 * re-injection server behind us.  Knows nothing of SMTP's commands.
 */
#ifndef STREAM_H
#define STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"

enum stream_status {
	STREAM_OK,
	STREAM_END,      /* the peer closed, or the connection broke */
	STREAM_TIMEOUT,  /* the deadline passed */
	STREAM_STOP,     /* SIGTERM is pending (streams that watch for it) */
	STREAM_TOO_LONG, /* the line passed its limit and was dropped whole */
	STREAM_BARE_LF   /* the line held a LF without CR and was dropped */
};

struct stream {
	int in;          /* borrowed; read from here */
	int out;         /* borrowed; written to here; may equal in */
	int64_t idle_ms; /* longest wait without progress, 0 for none */
	int stop;        /* borrowed; signalfd(2) for SIGTERM, or -1 */
	bool discard;    /* nothing can be written any more */
	char *data;      /* owned; what was read and not yet taken */
	size_t start, end;
	struct buf pending; /* what was written and not yet sent */
};

/*
 * Prepares a stream in the caller's storage.  The descriptors stay the
 * caller's.  stop is -1 or a signalfd(2) that ends waits for input.  Returns
 * 0, or -1 with errno ENOMEM.
 */
int stream_init(struct stream *s, int in, int out, int stop);

/* Frees the buffers; takes a stream that stream_init() refused. */
void stream_free(struct stream *s);

/*
 * Reads one line that ends in CRLF into *line, which is emptied first; the
 * CRLF is taken and not stored, NULs are.  A line of more than max octets
 * (CRLF not counted), or one with a bare LF, is taken whole and reported as
 * such; where a peer ends its lines in bare LFs and falls silent, that is
 * reported after two seconds instead of at the deadline.  Flushes pending
 * output before it waits; deadline_ms is a clock_ms() time.
 */
enum stream_status stream_read_line(struct stream *s, struct buf *line,
    size_t max, int64_t deadline_ms);

/*
 * Shows what is there to read: *data and *len are set, at least one octet,
 * borrowed until the next call; waits when nothing is.  Nothing is taken until
 * stream_take().
 */
enum stream_status stream_peek(struct stream *s, const char **data, size_t *len,
    int64_t deadline_ms);

/* Takes len octets of those that stream_peek() showed. */
void stream_take(struct stream *s, size_t len);

/*
 * Writes octets; small ones wait in memory for company.  A stream whose peer
 * is gone swallows everything.
 */
enum stream_status stream_write(struct stream *s, const void *data, size_t len,
    int64_t deadline_ms);

/* Sends what waits in memory. */
enum stream_status stream_flush(struct stream *s, int64_t deadline_ms);

/*
 * Sends what waits and lets the peer read it: a socket that is closed with
 * input unread resets the connection, and the last reply may be lost.  Takes
 * and drops what still comes until the peer closes, for a second at most.
 */
void stream_linger(struct stream *s);

/*
 * Tells whether the peer hung up or reset the connection (POLLHUP, POLLERR
 * on the side that is written to).  A peer that only closed its sending side,
 * or whose next commands wait to be read, is not gone.  Does not block.
 */
bool stream_peer_is_gone(const struct stream *s);

#endif

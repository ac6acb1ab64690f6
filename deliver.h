/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * All or nothing: where a message goes, and the order in which it is
 * committed there.
 */
#ifndef DELIVER_H
#define DELIVER_H

#include "inject.h"
#include "log.h"
#include "message.h"
#include "object.h"
#include "smtp.h"
#include "stream.h"
#include "swift.h"

struct place; /* an account's container and its recipients */

/* The session's side of a delivery; all is borrowed. */
struct delivery {
	const struct config *config;
	struct smtp *smtp;
	struct inject *inject;
	struct stream *client;
	const char *peer;     /* the client as name[address] */
	struct swift **swift; /* opened at first use */

	struct message message;
	struct buf facts[FACTS];
	struct buf counters;  /* for statsd, once the outcome is known */
	struct place *places; /* owned */
	size_t nplaces;
	struct envelope all;      /* every recipient, borrowed */
	struct envelope injected; /* what the re-injection server gets */
	int64_t started_ms;       /* clock_ms() of 354 */
	struct timespec ended;    /* of the end of data, time of day */
	int64_t ended_ms;         /* of its arrival */
	int64_t deadline_ms;
};

/*
 * Prepares to receive the message of d->smtp's transaction; the borrowed
 * members are set.  deliver_close() must follow.
 */
void deliver_open(struct delivery *d);

/*
 * Commits the message after its end of data: content to the re-injection
 * server, the uploads, the held-back dot.  bare_lf: the content is refused.
 * Returns the reply, borrowed until the next command.  It blocks until the
 * deadline, up to 10 s more when objects must be deleted again.
 */
const struct reply *deliver_commit(struct delivery *d, bool bare_lf);

/*
 * Sends the counters, which do not outrun the reply, and frees the message;
 * whatever was not committed is dropped.
 */
void deliver_close(struct delivery *d);

/*
 * Begins a log line about a transaction: client, from, and to, which is left
 * out where there is no recipient.
 */
void deliver_log(struct log_line *l, enum log_verb verb, const char *peer,
    const struct envelope *e);

/* Ends it with the reply's status and the reason. */
void deliver_log_end(struct log_line *l, const struct reply *r,
    const char *reason);

#endif

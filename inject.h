/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The client's side of SMTP: hands recipients that no account claims back to
 * the MTA behind us, with the final dot held back until the caller commits.
 *
 * A transaction that was opened and given up costs Postfix a second per mail
 * later on, so nothing is opened before it is needed.
 */
#ifndef INJECT_H
#define INJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "config.h"
#include "message.h"
#include "smtp.h"
#include "stream.h"

enum {
	INJECT_STEP_MS = 60000, /* for each step before the end of data */
	INJECT_REPLY_MAX = 512  /* octets of a reply that are passed on */
};

enum inject_outcome {
	INJECT_OK,
	INJECT_REFUSED, /* the server said 4yz or 5yz; see i->reply */
	INJECT_FAILED,  /* unreachable, silent or not SMTP */
	INJECT_IN_DOUBT /* no proper answer to the dot */
};

struct inject {
	const struct smtp_config *config; /* borrowed */
	struct stream stream;
	int fd;             /* owned; -1 while there is no connection */
	size_t nrecipients; /* accepted by the server */
	bool offered[PARAMETER_COUNT]; /* its extension is announced */
	bool xforward[XFORWARD_COUNT]; /* the attribute is announced */
	bool failed;       /* in this transaction; do not try again */
	int code;          /* of the newest reply */
	struct buf reply;  /* its last line, printable, without the code */
	struct buf reason; /* what failed, for the log */
};

/* Prepares in the caller's storage; connects to nothing. */
void inject_init(struct inject *i, const struct smtp_config *config);
void inject_free(struct inject *i);

/*
 * Offers a recipient to the server, connecting at the first one: greeting,
 * EHLO, XFORWARD, MAIL, RCPT.  t and r are borrowed.  Blocks 60 s a step at
 * most.  INJECT_REFUSED leaves the server's words in i->code and i->reply.
 */
enum inject_outcome inject_recipient(struct inject *i,
    const struct transaction *t, const struct recipient *r);

/* Sends DATA and the content, but not the final dot. */
enum inject_outcome inject_content(struct inject *i, const struct message *m,
    int64_t deadline_ms);

/*
 * Sends the final dot and reads the answer: INJECT_OK means that the server
 * has taken responsibility (RFC 5321 section 6.1).  inject_end() follows.
 */
enum inject_outcome inject_commit(struct inject *i, int64_t deadline_ms);

/*
 * Ends the transaction: with QUIT where no mail data is open, else by
 * dropping the connection.  The next one begins anew.
 */
void inject_end(struct inject *i);

#endif

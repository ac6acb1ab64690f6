/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * ERRORMAIL: a mail when something begins to fail, one an hour at most while
 * it lasts, one when it is over.  It is seen in the lines of the log.
 */
#ifndef ERRORMAIL_H
#define ERRORMAIL_H

#include <stdbool.h>
#include <stdint.h>

#include "buf.h"
#include "logs.h"
#include "table.h"

struct trouble {
	const struct kind *kind; /* borrowed */
	unsigned long count;     /* lines since it began */
	unsigned long told;      /* of them, how many there were when told */
	int64_t since_ms, last_ms;
	int64_t told_ms; /* 0 for never */
	bool over;
};

struct errormail {
	const char *address;  /* borrowed */
	const char *account;  /* borrowed; stores the mail; NULL for none */
	const char *hostname; /* borrowed */
	struct table lines;   /* the newest of each trouble, by its name */
	/* In the same order; further ones are in the log alone. */
	struct trouble troubles[32];
};

/* Takes a line of the log; context is a struct errormail. */
logs_watch_fn errormail_see;

/*
 * Appends what is to be told now, a paragraph for each trouble, and takes it
 * for told.
 */
void errormail_report(struct errormail *e, struct buf *text);

/*
 * Mails what is to be told, from a process of its own; logs it where the mail
 * would go to an account that fails, or cannot be sent.
 */
void errormail_tell(struct errormail *e);

#endif

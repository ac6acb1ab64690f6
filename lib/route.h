/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Which account a recipient belongs to: a sorted table of what all claim.
 */
#ifndef ROUTE_H
#define ROUTE_H

#include "address.h"
#include "buf.h"

enum {
	ROUTE_NONE = -1, /* no account claims the recipient */
	ROUTE_FAULT = -2 /* there is no memory to find out */
};

struct claim {
	char *key;   /* owned; as address_key() makes it, "@domain" or "*" */
	int account; /* its index */
};

struct routes {
	struct claim *claims; /* owned; sorted by key once route_sort() ran */
	size_t n;
	locale_t locale; /* owned; address_locale(), once a claim needed it */
	const char *origin;     /* borrowed; completes a bare local part */
	const char *delimiters; /* borrowed; a set of characters */
};

/*
 * Adds the entries of list, which is in UTF-8 (commas and line breaks
 * separate), for an account.  Returns whether all are good; what is wrong is
 * appended to *reason.
 */
bool route_add(struct routes *r, int account, const char *list,
    struct buf *reason);

/* Sorts all claims, once they are added; finding needs it. */
void route_sort(struct routes *r);

/*
 * The account that claims a recipient, ROUTE_NONE or ROUTE_FAULT.  The most
 * specific claim wins: the address, the address without its extension, its
 * "@domain", "*".
 */
int route_find(const struct routes *r, const struct address *a);

void route_free(struct routes *r);

#endif

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Which account a recipient belongs to.
 */
#ifndef ROUTE_H
#define ROUTE_H

#include <stddef.h>

#include "address.h"
#include "buf.h"
#include "config.h"

enum {
	ROUTE_NONE = -1, /* no account claims the recipient */
	ROUTE_FAULT = -2 /* there is no memory to find out */
};

/*
 * Adds what c->accounts[account].recipients lists (commas and line breaks
 * separate) to c->claims.  Returns 0, or -1 with the reason appended to
 * *reason: an entry that is no address, or one that another account claims.
 */
int route_claim(struct config *c, size_t account, struct buf *reason);

/*
 * The index of the account that claims a recipient, or ROUTE_NONE; or
 * ROUTE_FAULT.  The most
 * specific claim wins: the address, the address without its extension, its
 * "@domain", "*".
 */
ptrdiff_t route_find(const struct config *c, const struct address *a);

#endif

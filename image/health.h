/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The probe "swiftdrop-entry health": EHLO, MAIL and RCPT on port 25.
 */
#ifndef HEALTH_H
#define HEALTH_H

#include "buf.h"
#include "postconf.h"

/* What the probe needs to know, for HEALTH_PATH. */
postconf_fn health_describe;

/*
 * Asks the server on this host's port 25 whether it would take mail for one
 * of our recipients.  Sends no mail.  Takes ten seconds at most.  Returns 0,
 * or -1 with the reason appended to *reason.
 */
int health_probe(struct buf *reason);

#endif

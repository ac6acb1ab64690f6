/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * rspamd's verdict on one message, and what it means for the message.
 */
#ifndef SCAN_H
#define SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "message.h"
#include "object.h"
#include "smtp.h"

enum {
	SCAN_TEXT_MAX = 400 /* octets; with codes and CRLF a reply has at most
			       512, RFC 5321 section 4.5.3.1.5 */
};

/*
 * Asks rspamd about a finished message of s->transaction and waits for the
 * answer until s->config->rspamd_timeout_s and deadline_ms at most.  Fills
 * FACT_VERDICT and those after it, which are empty before; FACT_VERDICT alone,
 * with "none", where there is no usable answer, and logs why.  Returns NULL
 * where the message may be stored, else the reply that refuses it, borrowed
 * until the next command.
 */
const struct reply *scan_message(struct smtp *s, const struct message *m,
    int64_t deadline_ms, struct buf facts[FACTS]);

/*
 * Reads an answer to /checkv2 into the same facts, and what the client is to
 * be told, a printable line, into *text.  Returns whether it is one; nothing
 * is set where it is not.  The answer is not the same afterwards.
 */
bool scan_read(struct buf *answer, struct buf facts[FACTS], struct buf *text);

#endif

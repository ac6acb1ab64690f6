/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The answer of an SMTP server: RFC 5321 section 4.2, all its lines.
 */
#ifndef REPLY_H
#define REPLY_H

#include "buf.h"
#include "stream.h"

enum {
	REPLY_LINE_MAX = 2048,     /* octets, CRLF not counted; RFC 5321: 512 */
	REPLY_TEXT_MAX = 64 * 1024 /* octets of all lines */
};

/*
 * Reads one reply: *code becomes its code (200 to 599), *text, emptied first,
 * what stands behind it in each line; LF separates the lines.  Returns NULL,
 * or what is wrong: no answer before deadline_ms, none at all, one that is
 * not SMTP.
 */
const char *reply_read(struct stream *s, int *code, struct buf *text,
    int64_t deadline_ms);

#endif

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The answer of an SMTP server.
 */
#include <string.h>

#include "reply.h"

#include "banned.h"

/* The code of a line, 0 where it is none of a reply. */
static int
line_code(const struct buf *line)
{
	const char *p = buf_text(line);

	if (line->len < 3 || memchr(p, '\0', line->len) != NULL ||
	    strspn(p, "0123456789") != 3 || p[0] < '2' || p[0] > '5' ||
	    (line->len > 3 && p[3] != ' ' && p[3] != '-'))
		return 0;
	return (p[0] - '0') * 100 + (p[1] - '0') * 10 + (p[2] - '0');
}

const char *
reply_read(struct stream *s, int *code, struct buf *text, int64_t deadline_ms)
{
	static const char not_smtp[] = "answer is not SMTP";
	BUF(line, REPLY_LINE_MAX + 2);
	enum stream_status status;

	buf_reset(text);
	*code = 0;
	do {
		status =
		    stream_read_line(s, &line, REPLY_LINE_MAX, deadline_ms);
		if (status == STREAM_TIMEOUT)
			return "no answer in time";
		if (status == STREAM_END)
			return "connection lost";
		if (status != STREAM_OK || line_code(&line) == 0 ||
		    (*code != 0 && line_code(&line) != *code))
			return not_smtp;
		if (*code != 0)
			buf_addc(text, '\n');
		*code = line_code(&line);
		if (line.len > 4)
			buf_add(text, line.data + 4, line.len - 4);
	} while (line.len > 3 && line.data[3] == '-' && text->error == 0);
	return text->error == 0 ? NULL : not_smtp;
}

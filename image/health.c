/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The probe.  A banner alone would not show that the tables can be read, so
 * it goes as far as RCPT and leaves with QUIT: nothing is left behind.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "file.h"
#include "health.h"
#include "paths.h"
#include "reply.h"
#include "stream.h"

#include "banned.h"

enum {
	LIMIT_MS = 10000
};

struct probe {
	struct stream stream;
	struct buf *reason; /* borrowed */
	int64_t deadline_ms;
};

/* Two lines: "haproxy" or nothing, and a recipient or nothing. */
void
health_describe(const struct settings *s, const char *base, struct buf *out)
{
	const struct table *t;
	const char *recipient;

	(void)base;
	t = s->recipients.n > 0 ? &s->recipients : &s->forwards;
	recipient = t->n > 0 ? t->entries[0]->name : "";
	buf_addf(out, "%s\n%s%s\n", s->proxy ? "haproxy" : "",
	    *recipient == '@' ? "postmaster" : "", recipient);
}

/* Reads a reply; 2yz is good. */
static int
expect(struct probe *p, const char *command)
{
	BUF(text, REPLY_TEXT_MAX);
	const char *wrong;
	int code;

	wrong = reply_read(&p->stream, &code, &text, p->deadline_ms);
	if (wrong == NULL && code / 100 == 2)
		return 0;
	if (wrong != NULL)
		buf_addf(p->reason, "%s: %s", command, wrong);
	else
		buf_addf(p->reason, "answer to %s: %d %s", command, code,
		    buf_text(&text));
	return -1;
}

/* What cannot be sent has no answer. */
static int
say(struct probe *p, const char *command, const char *argument)
{
	BUF(line, REPLY_LINE_MAX);

	buf_addf(&line, "%s%s\r\n", command, argument);
	(void)stream_write(&p->stream, buf_text(&line), line.len,
	    p->deadline_ms);
	return expect(p, command);
}

static int
dialogue(struct probe *p, bool proxy, const char *recipient)
{
	/* PROXY protocol version 2, command LOCAL: "a health check". */
	static const char header[] = "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
	BUF(to, REPLY_LINE_MAX);

	buf_addf(&to, " TO:<%s>", recipient);
	if (proxy)
		(void)stream_write(&p->stream, header, sizeof(header) - 1,
		    p->deadline_ms);
	if (expect(p, "connection") == -1 ||
	    say(p, "EHLO", " localhost") == -1 ||
	    say(p, "MAIL", " FROM:<>") == -1 ||
	    (*recipient != '\0' && say(p, "RCPT", buf_text(&to)) == -1))
		return -1;
	(void)say(p, "QUIT", "");
	return 0;
}

int
health_probe(struct buf *reason)
{
	struct probe p = { .reason = reason,
		.deadline_ms = clock_ms() + LIMIT_MS };
	BUF(text, 4096);
	char *recipient;
	int fd, result;

	if (file_read(HEALTH_PATH, &text, NULL) == -1) {
		buf_addf(reason, HEALTH_PATH ": %s; not started yet?",
		    strerror(errno));
		return -1;
	}
	recipient = text.data;
	(void)strsep(&recipient, "\n");
	fd = stream_connect("localhost:25", p.deadline_ms);
	if (fd == -1) {
		buf_addf(reason, "port 25: %s", strerror(errno));
		return -1;
	}
	result = stream_init(&p.stream, fd, fd, -1);
	if (result == 0)
		result = dialogue(&p, *buf_text(&text) != '\0',
		    recipient == NULL ? "" : strsep(&recipient, "\n"));
	else
		buf_adds(reason, strerror(errno));
	stream_free(&p.stream);
	(void)close(fd);
	return result;
}

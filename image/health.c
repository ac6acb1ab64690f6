/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The probe.  A banner alone would not show that the tables can be read, so
 * it goes as far as RCPT and leaves with QUIT: nothing is left behind.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "file.h"
#include "health.h"
#include "paths.h"
#include "reply.h"
#include "sessions.h"
#include "stream.h"
#include "text.h"

#include "banned.h"

enum {
	GREETING_MS = 5000,
	LIMIT_MS = 10000
};

struct probe {
	struct stream stream;
	struct buf *reason; /* borrowed */
	int64_t deadline_ms;
	int code; /* of the last reply */
};

/*
 * "haproxy" or nothing, how many servers Postfix may have, and the commands,
 * the last one nothing where there is no recipient.
 */
void
health_describe(const struct settings *s, const char *base, struct buf *out)
{
	const struct table *t;
	const char *recipient;

	(void)base;
	t = s->recipients.n > 0 ? &s->recipients : &s->forwards;
	recipient = t->n > 0 ? t->entries[0]->name : "";
	buf_addf(out, "%s\n%lld\nEHLO %s\nMAIL FROM:<>%s\n",
	    s->proxy ? "haproxy" : "", (long long)s->max_servers, s->myhostname,
	    text_is_ascii(recipient, strlen(recipient)) ? "" : " SMTPUTF8");
	if (*recipient != '\0')
		buf_addf(out, "RCPT TO:<%s%s>",
		    *recipient == '@' ? "postmaster" : "", recipient);
	buf_addc(out, '\n');
}

/*
 * Whether mail may flow all the same: MAIL wants TLS first, or a policy defers
 * a recipient (RFC 3463: 4.2.y, 4.7.y), as it does for a client that it does
 * not know.  What Postfix cannot do itself is 4.3.y.
 */
static bool
is_good(const char *command, int code, const char *text)
{
	return code / 100 == 2 ||
	       (code == 530 && strncmp(command, "MAIL", 4) == 0) ||
	       ((strncmp(text, "4.2.", 4) == 0 ||
		    strncmp(text, "4.7.", 4) == 0) &&
		   strncmp(command, "RCPT", 4) == 0);
}

/* Reads a reply. */
static int
expect(struct probe *p, const char *command)
{
	BUF(text, REPLY_TEXT_MAX);
	const char *wrong;
	int len;

	wrong = reply_read(&p->stream, &p->code, &text, p->deadline_ms);
	if (wrong == NULL && is_good(command, p->code, buf_text(&text)))
		return 0;
	len = (int)strcspn(command, " ");
	if (wrong != NULL)
		buf_addf(p->reason, "%.*s: %s", len, command, wrong);
	else
		buf_addf(p->reason, "answer to %.*s: %d %s", len, command,
		    p->code, buf_text(&text));
	return -1;
}

/* What cannot be sent has no answer. */
static int
say(struct probe *p, const char *command)
{
	BUF(line, REPLY_LINE_MAX);

	buf_addf(&line, "%s\r\n", command);
	(void)stream_write(&p->stream, buf_text(&line), line.len,
	    p->deadline_ms);
	return expect(p, command);
}

/* With fields as health_describe() wrote them. */
static int
dialogue(struct probe *p, const char *const *fields)
{
	/* PROXY protocol version 2, command LOCAL: "a health check". */
	static const char header[] = "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
	const char *last;

	if (*fields[0] != '\0')
		(void)stream_write(&p->stream, header, sizeof(header) - 1,
		    p->deadline_ms);
	/* Idle or not, that many clients have all servers there are. */
	if (expect(p, "connection") == -1)
		return clock_left_ms(p->deadline_ms) == 0 &&
			       sessions_count() >= strtoul(fields[1], NULL, 10)
			   ? 0
			   : -1;
	p->deadline_ms += LIMIT_MS - GREETING_MS;
	if (say(p, fields[2]) == -1 || say(p, fields[3]) == -1)
		return -1;
	last = p->code == 530 ? "STARTTLS" : fields[4];
	if (*last != '\0' && say(p, last) == -1)
		return -1;
	(void)say(p, "QUIT");
	return 0;
}

int
health_probe(struct buf *reason)
{
	struct probe p = { .reason = reason,
		.deadline_ms = clock_ms() + GREETING_MS };
	BUF(text, 4096);
	const char *fields[5];
	char *rest;
	size_t i;
	int fd, result;

	if (file_read(HEALTH_PATH, &text, NULL) == -1) {
		buf_addf(reason, HEALTH_PATH ": %s; not started yet?",
		    strerror(errno));
		return -1;
	}
	rest = text.data;
	for (i = 0; i < COUNT(fields); i++) {
		fields[i] = strsep(&rest, "\n");
		if (fields[i] == NULL)
			fields[i] = "";
	}
	fd = stream_connect("localhost:25", p.deadline_ms);
	if (fd == -1) {
		buf_addf(reason, "port 25: %s", strerror(errno));
		return -1;
	}
	result = stream_init(&p.stream, fd, fd, -1);
	if (result == 0)
		result = dialogue(&p, fields);
	else
		buf_adds(reason, strerror(errno));
	stream_free(&p.stream);
	(void)close(fd);
	return result;
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The probe.  A banner alone would not show that the tables can be read, so
 * it goes as far as RCPT and leaves with QUIT: nothing is left behind.
 */
#include <sys/socket.h>

#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "endpoint.h"
#include "environment.h"
#include "health.h"
#include "stream.h"

#include "banned.h"

enum {
	LIMIT_MS = 10000,
	LINE_LIMIT = 2048 /* octets of a reply's line; RFC 5321 says 512 */
};

struct probe {
	struct stream stream;
	struct buf *reason; /* borrowed */
	int64_t deadline_ms;
};

static int probe_with(const char *text, struct buf *reason);
static int dialogue(struct probe *p, const char *text);
static int say(struct probe *p, const char *command, const char *argument);
static int expect(struct probe *p, const char *command);
static void note_silence(struct probe *p, enum stream_status status,
    const char *command);

/* Two lines: "haproxy" or nothing, and a recipient. */
int
health_describe(const struct settings *s, struct buf *out)
{
	const char *recipient;

	recipient = s->recipients.items[0];
	return buf_addf(out, "%s\n%s%s\n", s->proxy ? "haproxy" : "",
	    recipient[0] == '@' ? "postmaster" : "", recipient);
}

int
health_probe(struct buf *reason)
{
	struct buf text;
	int result;

	buf_init(&text, 4096);
	result = environment_read_file(HEALTH_PATH, &text);
	if (result == -1)
		(void)buf_addf(reason, "%s: %s; not started yet?", HEALTH_PATH,
		    strerror(errno));
	else
		result = probe_with(buf_text(&text), reason);
	buf_free(&text);
	return result;
}

static int
probe_with(const char *text, struct buf *reason)
{
	struct probe p = { .reason = reason };
	struct endpoints endpoints;
	int fd, result;

	p.deadline_ms = clock_ms() + LIMIT_MS;
	if (endpoint_parse("localhost:25", &endpoints) == -1)
		return -1;
	fd = endpoint_connect(&endpoints, p.deadline_ms);
	if (fd == -1) {
		(void)buf_addf(reason, "port 25: %s", strerror(errno));
		return -1;
	}
	result = stream_init(&p.stream, fd, fd, -1);
	if (result == 0)
		result = dialogue(&p, text);
	else
		(void)buf_add_text(reason, strerror(errno));
	stream_free(&p.stream);
	(void)close(fd);
	return result;
}

static int
dialogue(struct probe *p, const char *text)
{
	/* PROXY protocol version 2, command LOCAL: "a health check". */
	static const char header[] = "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
	struct buf recipient;
	size_t proxy;
	int result;

	proxy = strcspn(text, "\n");
	if (proxy != 0 && stream_write(&p->stream, header, sizeof(header) - 1,
			      p->deadline_ms) != STREAM_OK)
		return -1;
	text += proxy + (text[proxy] == '\n');
	buf_init(&recipient, 2048);
	result =
	    buf_addf(&recipient, "TO:<%.*s>", (int)strcspn(text, "\n"), text);
	if (result == -1 || expect(p, "connection") == -1 ||
	    say(p, "EHLO", "localhost") == -1 ||
	    say(p, "MAIL", "FROM:<>") == -1 ||
	    say(p, "RCPT", buf_text(&recipient)) == -1)
		result = -1;
	buf_free(&recipient);
	if (result == 0)
		(void)say(p, "QUIT", NULL);
	return result;
}

static int
say(struct probe *p, const char *command, const char *argument)
{
	struct buf line;
	enum stream_status status;
	int result;

	buf_init(&line, LINE_LIMIT);
	result = buf_addf(&line, "%s%s%s\r\n", command,
	    argument == NULL ? "" : " ", argument == NULL ? "" : argument);
	if (result == 0) {
		status = stream_write(&p->stream, buf_text(&line), line.len,
		    p->deadline_ms);
		if (status != STREAM_OK) {
			note_silence(p, status, command);
			result = -1;
		}
	}
	buf_free(&line);
	return result == 0 ? expect(p, command) : -1;
}

/* Reads a reply, all its lines (RFC 5321 section 4.2.1); 2yz is good. */
static int
expect(struct probe *p, const char *command)
{
	struct buf line;
	enum stream_status status;
	int result;

	buf_init(&line, LINE_LIMIT);
	do {
		status = stream_read_line(&p->stream, &line, LINE_LIMIT,
		    p->deadline_ms);
	} while (status == STREAM_OK && line.len > 3 && line.data[3] == '-');
	result = status == STREAM_OK && line.len >= 3 && line.data[0] == '2'
		     ? 0
		     : -1;
	if (status != STREAM_OK)
		note_silence(p, status, command);
	else if (result == -1)
		(void)buf_addf(p->reason, "answer to %s: %s", command,
		    buf_text(&line));
	buf_free(&line);
	return result;
}

static void
note_silence(struct probe *p, enum stream_status status, const char *command)
{
	(void)buf_addf(p->reason, "%s: %s", command,
	    status == STREAM_TIMEOUT ? "no answer in time"
				     : "the server closed the connection");
}

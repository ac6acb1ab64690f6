/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The client's side of SMTP (RFC 5321 section 4), in the order of the
 * protocol.  One transaction for each connection, never RSET.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "clock.h"
#include "endpoint.h"
#include "inject.h"
#include "log.h"

#include "banned.h"

enum {
	REPLY_LINES_MAX = 100,
	CHUNK = 16 * 1024,      /* octets of content sent at a time */
	XFORWARD_LINE_MAX = 500 /* Postfix takes 512 with CRLF */
};

/* Where a line ends in content that is sent in chunks. */
struct stuffing {
	bool line_start;
	bool cr; /* a CR waits for what follows it */
};

static enum inject_outcome begin(struct inject *i, const struct transaction *t);
static enum inject_outcome open_session(struct inject *i);
static void take_extension(struct inject *i, const char *line, size_t len);
static enum inject_outcome send_xforward(struct inject *i,
    const struct transaction *t);
static int add_xtext(struct buf *line, const struct buf *text);
static int add_parameters(const struct inject *i, struct buf *line,
    const struct parameters *given);
static enum inject_outcome command(struct inject *i, const char *line, int want,
    int64_t deadline_ms);
static enum inject_outcome read_reply(struct inject *i, int want, bool ehlo,
    int64_t deadline_ms);
static bool take_reply_line(struct inject *i, const struct buf *line,
    bool first, bool *last);
static enum inject_outcome failed(struct inject *i, const char *reason);
static int stuff(struct buf *out, struct stuffing *s, const char *text,
    size_t len);
static int64_t step(void);

void
inject_init(struct inject *i, const struct smtp_config *config)
{
	*i = (struct inject){ .config = config, .fd = -1 };
	buf_init(&i->reply, INJECT_REPLY_MAX);
	buf_init(&i->reason, INJECT_REPLY_MAX + 256);
}

void
inject_free(struct inject *i)
{
	inject_end(i);
	buf_free(&i->reply);
	buf_free(&i->reason);
}

enum inject_outcome
inject_recipient(struct inject *i, const struct transaction *t,
    const struct recipient *r)
{
	enum inject_outcome outcome;
	struct buf line;

	if (i->failed)
		return INJECT_FAILED;
	if (i->fd == -1) {
		outcome = begin(i, t);
		if (outcome == INJECT_FAILED)
			i->failed = true;
		if (outcome != INJECT_OK) {
			inject_end(i);
			i->failed = outcome == INJECT_FAILED;
			return outcome;
		}
	}
	buf_init(&line, 4 * SMTP_LINE_MAX);
	outcome = INJECT_FAILED;
	if (buf_addf(&line, "RCPT TO:<%s>", buf_text(&r->path)) == 0 &&
	    add_parameters(i, &line, &r->parameters) == 0)
		outcome = command(i, buf_text(&line), 2, step());
	buf_free(&line);
	if (outcome == INJECT_OK)
		i->nrecipients++;
	if (outcome == INJECT_FAILED)
		i->failed = true;
	return outcome;
}

/* Connects and goes as far as MAIL. */
static enum inject_outcome
begin(struct inject *i, const struct transaction *t)
{
	struct endpoints endpoints;
	enum inject_outcome outcome;
	struct buf line;

	if (endpoint_parse(i->config->reinject, &endpoints) == -1)
		return failed(i, strerror(errno));
	i->fd = endpoint_connect(&endpoints, step());
	if (i->fd == -1)
		return failed(i, strerror(errno));
	if (stream_init(&i->stream, i->fd, i->fd, -1) == -1)
		return failed(i, strerror(errno));
	outcome = open_session(i);
	if (outcome == INJECT_OK && t->xforward_used)
		outcome = send_xforward(i, t);
	/* What is refused up to here is ours to mend, not the sender's. */
	if (outcome != INJECT_OK)
		return INJECT_FAILED;
	if (t->parameters.given[PARAMETER_SMTPUTF8] &&
	    !i->offered[PARAMETER_SMTPUTF8])
		return failed(i, "SMTPUTF8 is needed and not offered");
	buf_init(&line, 8 * SMTP_LINE_MAX);
	outcome = INJECT_FAILED;
	if (buf_addf(&line, "MAIL FROM:<%s>", buf_text(&t->reverse_path)) ==
		0 &&
	    add_parameters(i, &line, &t->parameters) == 0)
		outcome = command(i, buf_text(&line), 2, step());
	buf_free(&line);
	return outcome;
}

static enum inject_outcome
open_session(struct inject *i)
{
	enum inject_outcome outcome;
	struct buf line;

	memset(i->offered, 0, sizeof(i->offered));
	memset(i->xforward, 0, sizeof(i->xforward));
	outcome = read_reply(i, 2, false, step());
	if (outcome != INJECT_OK)
		return outcome;
	buf_init(&line, SMTP_LINE_MAX);
	if (buf_addf(&line, "EHLO %s\r\n", i->config->hostname) == -1 ||
	    stream_write(&i->stream, line.data, line.len, step()) != STREAM_OK)
		outcome = failed(i, "connection lost at EHLO");
	else
		outcome = read_reply(i, 2, true, step());
	buf_free(&line);
	return outcome;
}

/* A line of the EHLO reply: a keyword and its parameters. */
static void
take_extension(struct inject *i, const char *line, size_t len)
{
	enum parameter p;
	enum xforward x;
	const char *word;
	size_t keyword, n;

	keyword = strcspn(line, " ");
	for (p = 0; p < PARAMETER_COUNT; p++) {
		word = smtp_parameter_extension(p);
		if (strlen(word) == keyword &&
		    strncasecmp(word, line, keyword) == 0)
			i->offered[p] = true;
	}
	if (keyword != 8 || strncasecmp(line, "XFORWARD", 8) != 0)
		return;
	for (word = line + keyword; word < line + len; word += n) {
		word += strspn(word, " ");
		n = strcspn(word, " ");
		for (x = 0; x < XFORWARD_COUNT; x++)
			if (strlen(smtp_xforward_name(x)) == n &&
			    strncasecmp(smtp_xforward_name(x), word, n) == 0)
				i->xforward[x] = true;
	}
}

/* As many lines as it takes; Postfix's XFORWARD_README. */
static enum inject_outcome
send_xforward(struct inject *i, const struct transaction *t)
{
	enum inject_outcome outcome;
	struct buf line, pair;
	enum xforward x;

	buf_init(&line, 8 * SMTP_LINE_MAX);
	buf_init(&pair, 4 * SMTP_LINE_MAX);
	outcome = INJECT_OK;
	for (x = 0; x < XFORWARD_COUNT; x++) {
		if (!i->xforward[x])
			continue;
		buf_reset(&pair);
		if (buf_addf(&pair, " %s=", smtp_xforward_name(x)) == -1 ||
		    add_xtext(&pair, &t->xforward[x]) == -1)
			continue;
		if (line.len > 0 && line.len + pair.len > XFORWARD_LINE_MAX) {
			outcome = command(i, buf_text(&line), 2, step());
			buf_reset(&line);
			if (outcome != INJECT_OK)
				break;
		}
		if (line.len == 0)
			(void)buf_add_text(&line, "XFORWARD");
		(void)buf_add(&line, pair.data, pair.len);
	}
	if (outcome == INJECT_OK && line.len > 0)
		outcome = command(i, buf_text(&line), 2, step());
	buf_free(&pair);
	buf_free(&line);
	return outcome;
}

/* RFC 3461 section 4; what is not known is said to be. */
static int
add_xtext(struct buf *line, const struct buf *text)
{
	size_t i;

	if (text->len == 0)
		return buf_add_text(line, "[UNAVAILABLE]");
	for (i = 0; i < text->len; i++)
		if ((text->data[i] > ' ' && text->data[i] <= '~' &&
				text->data[i] != '+' && text->data[i] != '='
			    ? buf_add_octet(line, text->data[i])
			    : buf_addf(line, "+%02X",
				  (unsigned int)(unsigned char)
				      text->data[i])) == -1)
			return -1;
	return 0;
}

/* Only what the server understands. */
static int
add_parameters(const struct inject *i, struct buf *line,
    const struct parameters *given)
{
	enum parameter p;

	for (p = 0; p < PARAMETER_COUNT; p++) {
		if (!given->given[p] || !i->offered[p])
			continue;
		if (buf_addf(line, " %s", smtp_parameter_keyword(p)) == -1)
			return -1;
		if (given->value[p].len > 0 &&
		    buf_addf(line, "=%s", buf_text(&given->value[p])) == -1)
			return -1;
	}
	return 0;
}

enum inject_outcome
inject_content(struct inject *i, const struct message *m, int64_t deadline_ms)
{
	struct stuffing stuffing = { .line_start = true };
	enum inject_outcome outcome;
	struct buf in, out;
	int64_t offset, until_ms;
	ssize_t n;

	/* The next answer would be an old one. */
	if (i->failed)
		return failed(i, "an answer before was lost");
	until_ms = step();
	if (until_ms > deadline_ms)
		until_ms = deadline_ms;
	outcome = command(i, "DATA", 3, until_ms);
	if (outcome != INJECT_OK)
		return outcome;
	buf_init(&in, CHUNK);
	buf_init(&out, 2 * CHUNK + 2);
	in.data = malloc(CHUNK);
	n = in.data == NULL ? -1 : 0;
	in.cap = in.data == NULL ? 0 : CHUNK;
	for (offset = 0; n != -1 && offset < m->size; offset += n) {
		n = message_read(m, offset, in.data, CHUNK);
		buf_reset(&out);
		if (n <= 0 ||
		    stuff(&out, &stuffing, in.data, (size_t)n) == -1 ||
		    stream_write(&i->stream, buf_text(&out), out.len,
			until_ms) != STREAM_OK)
			n = -1;
	}
	if (n != -1 && stream_flush(&i->stream, until_ms) != STREAM_OK)
		n = -1;
	buf_free(&in);
	buf_free(&out);
	return n == -1 ? failed(i, "connection lost in the content")
		       : INJECT_OK;
}

/*
 * Stuffs dots (RFC 5321 section 4.5.2) and turns a bare CR into a space, as
 * Postfix itself does since 2026: a next server could take it for a line end.
 */
static int
stuff(struct buf *out, struct stuffing *s, const char *text, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++) {
		if (s->cr &&
		    buf_add_octet(out, text[i] == '\n' ? '\r' : ' ') == -1)
			return -1;
		if (s->line_start && text[i] == '.' &&
		    buf_add_octet(out, '.') == -1)
			return -1;
		s->line_start = s->cr && text[i] == '\n';
		s->cr = text[i] == '\r';
		if (!s->cr && buf_add_octet(out, text[i]) == -1)
			return -1;
	}
	return 0;
}

enum inject_outcome
inject_commit(struct inject *i, int64_t deadline_ms)
{
	enum inject_outcome outcome;

	/* From here on the server may have the mail. */
	outcome = command(i, ".", 2, deadline_ms);
	if (outcome == INJECT_FAILED)
		outcome = INJECT_IN_DOUBT;
	if (outcome != INJECT_IN_DOUBT)
		i->nrecipients = 0; /* no mail data is open: QUIT is right */
	return outcome;
}

void
inject_end(struct inject *i)
{
	i->failed = false;
	if (i->fd != -1) {
		/* Nobody waits for the answer. */
		if (i->nrecipients == 0 && i->stream.data != NULL &&
		    stream_write(&i->stream, "QUIT\r\n", 6, clock_ms()) ==
			STREAM_OK)
			(void)stream_flush(&i->stream, clock_ms());
		stream_free(&i->stream);
		(void)close(i->fd);
	}
	i->fd = -1;
	i->nrecipients = 0;
}

/* Sends a line and reads the reply, whose first digit should be want. */
static enum inject_outcome
command(struct inject *i, const char *line, int want, int64_t deadline_ms)
{
	if (stream_write(&i->stream, line, strlen(line), deadline_ms) !=
		STREAM_OK ||
	    stream_write(&i->stream, "\r\n", 2, deadline_ms) != STREAM_OK)
		return failed(i, "connection lost");
	return read_reply(i, want, false, deadline_ms);
}

/* RFC 5321 section 4.2; the last line of several is what is passed on. */
static enum inject_outcome
read_reply(struct inject *i, int want, bool ehlo, int64_t deadline_ms)
{
	enum stream_status status;
	struct buf line;
	unsigned int n;
	bool last, valid;

	buf_init(&line, SMTP_LINE_MAX + 2);
	last = false;
	valid = true;
	status = STREAM_OK;
	for (n = 0; !last && valid && n < REPLY_LINES_MAX; n++) {
		status = stream_read_line(&i->stream, &line, SMTP_LINE_MAX,
		    deadline_ms);
		valid = status == STREAM_OK &&
			take_reply_line(i, &line, n == 0, &last);
		if (valid && ehlo && n > 0)
			take_extension(i, line.data + 4, line.len - 4);
	}
	buf_free(&line);
	if (!last || !valid)
		return failed(i, status == STREAM_TIMEOUT ? "no answer in time"
				 : status == STREAM_END   ? "connection lost"
							: "answer is not SMTP");
	if (i->code / 100 == want)
		return INJECT_OK;
	if (i->code / 100 < 4)
		return failed(i, "answer is not the one to this command");
	buf_reset(&i->reason);
	(void)buf_addf(&i->reason, "answered %d %s", i->code,
	    buf_text(&i->reply));
	/* 421 is about that connection, ours to the client goes on. */
	if (i->code == 421)
		i->code = 451;
	return INJECT_REFUSED;
}

static bool
take_reply_line(struct inject *i, const struct buf *line, bool first,
    bool *last)
{
	const char *p;
	int code;

	p = buf_text(line);
	if (line->len < 3 || p[0] < '2' || p[0] > '5' || p[1] < '0' ||
	    p[1] > '9' || p[2] < '0' || p[2] > '9' ||
	    memchr(p, '\0', line->len) != NULL)
		return false;
	code = (p[0] - '0') * 100 + (p[1] - '0') * 10 + (p[2] - '0');
	if (line->len > 3 && p[3] != ' ' && p[3] != '-')
		return false;
	if (!first && code != i->code)
		return false;
	i->code = code;
	*last = line->len == 3 || p[3] == ' ';
	buf_reset(&i->reply);
	if (line->len > 4)
		log_printable(&i->reply, p + 4, line->len - 4,
		    INJECT_REPLY_MAX);
	return true;
}

static enum inject_outcome
failed(struct inject *i, const char *reason)
{
	buf_reset(&i->reason);
	(void)buf_add_text(&i->reason, reason);
	return INJECT_FAILED;
}

static int64_t
step(void)
{
	return clock_ms() + INJECT_STEP_MS;
}

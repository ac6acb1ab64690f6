/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One SMTP session, from the greeting to the end.  The only place that sends
 * replies to the client.
 */
#include <sys/socket.h>

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "deliver.h"
#include "session.h"

#include "banned.h"

struct session {
	const struct config *config; /* borrowed */
	bool local;    /* a pipe, a UNIX socket or a loopback address */
	bool gone;     /* disconnected before we came */
	char peer[80]; /* for the log, name[address] */
	struct smtp smtp;
	struct stream client;
	struct inject inject;
	struct swift *swift; /* owned; NULL until something is stored */
	int64_t end_ms;      /* of the session, a clock_ms() time */
};

/* The last words where there is no memory for a reply. */
static enum stream_status
give_up(struct session *s)
{
	(void)stream_write(&s->client, smtp_no_memory, strlen(smtp_no_memory),
	    s->end_ms);
	(void)stream_flush(&s->client, s->end_ms);
	return STREAM_END;
}

static enum stream_status
send_reply(struct session *s, const struct reply *r)
{
	BUF(text, 8 * SMTP_LINE_MAX);

	smtp_format(r, &text);
	return text.error != 0
		   ? give_up(s)
		   : stream_write(&s->client, text.data, text.len, s->end_ms);
}

/* Who is on the other side; CONTRACT section 1. */
static void
identify(struct session *s, int fd)
{
	struct sockaddr_storage address = { .ss_family = AF_UNSPEC };
	socklen_t len = sizeof(address);
	char text[64] = "?"; /* IPv6 with an interface */

	if (getpeername(fd, (struct sockaddr *)&address, &len) == -1) {
		s->local = errno == ENOTSOCK;
		s->gone = errno == ENOTCONN;
		memcpy(s->peer, "localhost[pipe]", 16);
		return;
	}
	if (address.ss_family == AF_UNIX)
		memcpy(text, "unix", 5);
	else
		(void)getnameinfo((struct sockaddr *)&address, len, text,
		    sizeof(text), NULL, 0, NI_NUMERICHOST);
	s->local = address.ss_family == AF_UNIX || strcmp(text, "::1") == 0 ||
		   strncmp(text, "127.", 4) == 0 ||
		   strncmp(text, "::ffff:127.", 11) == 0;
	(void)snprintf(s->peer, sizeof(s->peer), "%s[%s]",
	    s->local ? "localhost" : "unknown", text);
}

static void
log_refused(struct session *s, struct recipient *recipient,
    const struct reply *r, const char *reason)
{
	const struct envelope e = { &s->smtp.transaction, &recipient,
		recipient == NULL ? 0 : 1 };
	struct log_line l;

	deliver_log(&l, r->code >= 500 ? LOG_REJECTED : LOG_DEFERRED, s->peer,
	    &e);
	deliver_log_end(&l, r, reason);
}

/* smtp_settle_fn: who takes the recipient, and if nobody does, why. */
static const struct reply *
settle(void *context, struct recipient *recipient)
{
	struct session *s = context;
	const struct smtp_config *config = &s->config->smtp;
	enum inject_outcome outcome;
	const struct reply *r;

	recipient->account =
	    route_find(&s->config->routes, &recipient->address);
	if (recipient->account == ROUTE_FAULT)
		return &reply_write_error;
	if (recipient->account != ROUTE_NONE)
		return &reply_rcpt_ok;
	if (config->reinject == NULL || !s->local) {
		r = config->unknown_recipient_code == 550 ? &reply_unknown_550
							  : &reply_unknown_450;
		log_refused(s, recipient, r, "no account claims it");
		return r;
	}
	outcome = inject_recipient(&s->inject, &s->smtp.transaction, recipient);
	if (outcome == INJECT_OK)
		return &reply_rcpt_ok;
	r = outcome == INJECT_REFUSED ? smtp_compose(&s->smtp, s->inject.code,
					    "%s", buf_text(&s->inject.reply))
				      : &reply_write_error;
	log_refused(s, recipient, r, buf_text(&s->inject.reason));
	return r;
}

static void
log_lost(struct session *s, const char *reason)
{
	const struct transaction *t = &s->smtp.transaction;
	const struct envelope e = { t, t->recipients, t->nrecipients };
	struct log_line l;

	deliver_log(&l, LOG_LOST, s->peer, &e);
	log_add_quoted(&l, "reason", reason);
	log_end(&l);
}

/* The reply to the end of data. */
static enum stream_status
answer(struct session *s, const struct reply *r)
{
	enum stream_status status;

	/*
	 * With 2yz responsibility passes to us, and it has passed on already:
	 * every object is confirmed (RFC 5321 section 6.1).
	 */
	status = send_reply(s, r);
	if (status == STREAM_OK)
		status =
		    stream_flush(&s->client, clock_ms() + s->client.idle_ms);
	if (status != STREAM_OK && r->code < 300)
		log_lost(s, "the client went away before the reply, it may "
			    "send a duplicate");
	smtp_end_of_data(&s->smtp, r);
	return status;
}

/* Mail data and its delivery, behind 354. */
static enum stream_status
receive(struct session *s)
{
	struct delivery d = {
		.config = s->config,
		.smtp = &s->smtp,
		.inject = &s->inject,
		.client = &s->client,
		.peer = s->peer,
		.swift = &s->swift,
	};
	struct data data = { .state = DATA_LINE };
	enum stream_status status;
	const struct reply *r;
	const char *text;
	size_t len;

	deliver_open(&d);
	status = stream_flush(&s->client, s->end_ms);
	while (status == STREAM_OK && data.state != DATA_END) {
		status = stream_peek(&s->client, &text, &len, s->end_ms);
		if (status != STREAM_OK)
			break;
		len =
		    smtp_data_decode(&data, text, len, message_add, &d.message);
		stream_take(&s->client, len);
	}
	r = status == STREAM_OK ? deliver_commit(&d, data.bare_lf) : NULL;
	if (r != NULL)
		status = answer(s, r);
	deliver_close(&d);
	return status;
}

/* NULL when there is no next command; *status says why. */
static const struct reply *
next_reply(struct session *s, struct buf *line, enum stream_status *status)
{
	struct pollfd stop = { .fd = s->client.stop, .events = POLLIN };
	BUF(reason, LOG_LINE_MAX);
	const struct reply *r;

	/* Pipelined commands must not outrun SIGTERM and the limit. */
	if (poll(&stop, 1, 0) == 1)
		*status = STREAM_STOP;
	else if (clock_left_ms(s->end_ms) == 0)
		*status = STREAM_TIMEOUT;
	else
		*status = stream_read_line(&s->client, line, SMTP_LINE_MAX,
		    s->end_ms);
	if (*status == STREAM_TOO_LONG)
		return line->error != 0
			   ? &reply_write_error
			   : smtp_refuse(&s->smtp, &reply_line_too_long);
	if (*status == STREAM_BARE_LF)
		return smtp_refuse(&s->smtp, &reply_bare_lf);
	if (*status != STREAM_OK)
		return NULL;
	r = smtp_command(&s->smtp, buf_text(line), line->len);
	if (r == &reply_config_error) {
		/* The server in front took what we do not understand. */
		buf_addf(&reason, "%s: ", s->smtp.softened->text);
		log_escape(&reason, line->data, line->len, 500);
		log_refused(s, NULL, r, buf_text(&reason));
	}
	return r;
}

/* Command by command, until QUIT (STREAM_OK) or something stops it. */
static enum stream_status
converse(struct session *s)
{
	BUF(line, SMTP_LINE_MAX + 2);
	enum stream_status status = STREAM_OK;
	const struct reply *r;

	while (s->smtp.state != SMTP_QUIT && status == STREAM_OK) {
		r = next_reply(s, &line, &status);
		if (r == NULL)
			break;
		status = send_reply(s, r);
		if (s->smtp.state == SMTP_DATA && status == STREAM_OK)
			status = receive(s);
		else if (s->smtp.transaction.nrecipients == 0 &&
			 s->smtp.state <= SMTP_READY)
			inject_end(&s->inject);
		if (s->smtp.errors >= SMTP_ERRORS_MAX && status == STREAM_OK) {
			(void)send_reply(s, &reply_too_many_errors);
			break;
		}
	}
	return status;
}

/* The last words, and a line in the log where mail may be missing. */
static void
say_goodbye(struct session *s, enum stream_status status)
{
	if (status == STREAM_TIMEOUT)
		(void)send_reply(s, &reply_timeout);
	if (status == STREAM_STOP)
		(void)send_reply(s, &reply_stopping);
	(void)stream_flush(&s->client, clock_ms() + 1000);
	if (s->smtp.state < SMTP_MAIL || s->smtp.state > SMTP_DATA)
		return;
	log_lost(s, status == STREAM_TIMEOUT
			? "the client was silent for too long"
		    : status == STREAM_STOP ? "stopped by SIGTERM"
		    : s->smtp.state == SMTP_DATA
			? "the client went away in the mail data"
			: "the client went away in the envelope");
}

static void
serve(struct session *s)
{
	enum stream_status status = send_reply(s, smtp_greeting(&s->smtp));

	if (status == STREAM_OK)
		status = converse(s);
	if (status != STREAM_OK)
		say_goodbye(s, status);
	if (s->smtp.state == SMTP_QUIT)
		(void)stream_flush(&s->client, s->end_ms);
	else
		stream_linger(&s->client);
}

static void
refuse_remote(struct session *s)
{
	struct log_line l;

	log_begin(&l, LOG_REJECTED, LOG_LEVEL_WARNING);
	log_add(&l, "client", "%s", s->peer);
	deliver_log_end(&l, &reply_remote,
	    "not a local client and allow_remote is no");
	(void)send_reply(s, &reply_remote);
	stream_linger(&s->client);
}

void
session_run(const struct config *config, int in, int out, int stop)
{
	struct session s = { .config = config };

	s.end_ms = clock_ms() + config->smtp.session_limit_s * 1000;
	identify(&s, in);
	inject_init(&s.inject, &config->smtp, s.end_ms);
	smtp_init(&s.smtp, &config->smtp, s.local, settle, &s);
	if (stream_init(&s.client, in, out, stop) == -1) {
		(void)give_up(&s);
	} else if (!s.gone) {
		s.client.idle_ms = config->smtp.timeout_s * 1000;
		if (s.local || config->smtp.allow_remote)
			serve(&s);
		else
			refuse_remote(&s);
	}
	stream_free(&s.client);
	inject_free(&s.inject);
	swift_close(s.swift);
	smtp_free(&s.smtp);
}

void
session_refuse(int out)
{
	struct session s = { .end_ms = clock_ms() + 1000 };

	(void)stream_init(&s.client, out, out, -1);
	if (send_reply(&s, &reply_broken_config) == STREAM_OK)
		stream_linger(&s.client);
	stream_free(&s.client);
}

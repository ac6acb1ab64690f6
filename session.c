/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One SMTP session, from the greeting to the end.  The only place that sends
 * replies to the client.
 */
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "deliver.h"
#include "inject.h"
#include "log.h"
#include "route.h"
#include "session.h"
#include "smtp.h"
#include "stream.h"

#include "banned.h"

/* Who is on the other side; CONTRACT section 1. */
struct peer {
	bool local;      /* a pipe, a UNIX socket or a loopback address */
	bool gone;       /* disconnected before we came */
	struct buf text; /* for the log, name[address] */
};

struct session {
	const struct config *config; /* borrowed */
	struct peer peer;
	struct smtp smtp;
	struct stream client;
	struct inject inject;
	struct swift *swift; /* owned; NULL until something is stored */
	int64_t end_ms;      /* of the session, a clock_ms() time */
};

static void refuse_remote(struct session *s);
static void identify(int fd, struct peer *peer);
static void describe(const struct sockaddr_storage *address, struct peer *peer);
static void serve(struct session *s);
static enum stream_status converse(struct session *s);
static const struct reply *next_reply(struct session *s, struct buf *line,
    enum stream_status *status);
static enum stream_status session_may_go_on(const struct session *s);
static enum stream_status receive(struct session *s);
static enum stream_status receive_data(struct session *s, struct delivery *d,
    struct data *data);
static void drop_content(void *context, const char *text, size_t len);
static const struct reply *settle(void *context, struct recipient *recipient);
static const struct reply *settle_unclaimed(struct session *s,
    struct recipient *recipient);
static void log_refused(struct session *s, const struct recipient *recipient,
    const struct reply *r, const char *reason);
static void say_goodbye(struct session *s, enum stream_status status);
static void log_lost(struct session *s, const char *reason);
static enum stream_status send_reply(struct session *s, const struct reply *r);

void
session_run(const struct config *config, int in, int out)
{
	struct session s = { .config = config };
	sigset_t set;
	int stop;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	stop = signalfd(-1, &set, SFD_CLOEXEC);
	s.end_ms = clock_ms() + config->smtp.session_limit_s * 1000;
	identify(in, &s.peer);
	inject_init(&s.inject, &config->smtp);
	smtp_init(&s.smtp, &config->smtp, s.peer.local, settle, &s);
	if (stream_init(&s.client, in, out, stop) == 0 && !s.peer.gone) {
		s.client.idle_ms = config->smtp.timeout_s * 1000;
		if (s.peer.local || config->smtp.allow_remote) {
			serve(&s);
		} else {
			refuse_remote(&s);
		}
	}
	stream_free(&s.client);
	inject_free(&s.inject);
	swift_close(s.swift);
	smtp_free(&s.smtp);
	buf_free(&s.peer.text);
	if (stop != -1)
		(void)close(stop);
}

static void
refuse_remote(struct session *s)
{
	const struct reply *r;
	struct log_line l;

	r = smtp_reply(REPLY_REMOTE);
	log_begin(&l, LOG_REJECTED, LOG_LEVEL_WARNING);
	log_add(&l, "client", "%s", buf_text(&s->peer.text));
	log_add(&l, "dsn", "%s", r->status);
	log_add_quoted(&l, "reason",
	    "not a local client and allow_remote is no");
	log_end(&l);
	(void)send_reply(s, r);
	stream_linger(&s->client);
}

void
session_refuse(int out)
{
	struct stream client;
	struct buf text;
	int64_t deadline_ms;

	deadline_ms = clock_ms() + 1000;
	buf_init(&text, SMTP_LINE_MAX);
	if (stream_init(&client, out, out, -1) == 0 &&
	    smtp_format(smtp_reply(REPLY_BROKEN_CONFIG), &text) == 0 &&
	    stream_write(&client, text.data, text.len, deadline_ms) ==
		STREAM_OK)
		stream_linger(&client);
	stream_free(&client);
	buf_free(&text);
}

static void
identify(int fd, struct peer *peer)
{
	struct sockaddr_storage address;
	socklen_t len;

	buf_init(&peer->text, 256);
	memset(&address, 0, sizeof(address));
	len = sizeof(address);
	if (getpeername(fd, (struct sockaddr *)&address, &len) == 0) {
		describe(&address, peer);
	} else {
		peer->local = errno == ENOTSOCK;
		peer->gone = errno == ENOTCONN;
		(void)buf_add_text(&peer->text, "localhost[pipe]");
	}
}

static void
describe(const struct sockaddr_storage *address, struct peer *peer)
{
	char text[INET6_ADDRSTRLEN] = "?";
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	const unsigned char *v4;

	v4 = NULL;
	if (address->ss_family == AF_UNIX) {
		peer->local = true;
		(void)buf_add_text(&peer->text, "localhost[unix]");
		return;
	}
	if (address->ss_family == AF_INET) {
		memcpy(&in, address, sizeof(in));
		(void)inet_ntop(AF_INET, &in.sin_addr, text, sizeof(text));
		v4 = (const unsigned char *)&in.sin_addr;
	} else if (address->ss_family == AF_INET6) {
		memcpy(&in6, address, sizeof(in6));
		(void)inet_ntop(AF_INET6, &in6.sin6_addr, text, sizeof(text));
		if (IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr))
			v4 = in6.sin6_addr.s6_addr + 12;
		peer->local = IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr);
	}
	if (v4 != NULL && v4[0] == 127)
		peer->local = true;
	(void)buf_addf(&peer->text, "%s[%s]",
	    peer->local ? "localhost" : "unknown", text);
}

static void
serve(struct session *s)
{
	enum stream_status status;

	status = send_reply(s, smtp_greeting(&s->smtp));
	if (status == STREAM_OK)
		status = converse(s);
	if (status != STREAM_OK)
		say_goodbye(s, status);
	if (s->smtp.state == SMTP_QUIT)
		(void)stream_flush(&s->client, s->end_ms);
	else
		stream_linger(&s->client);
}

/* Command by command, until QUIT (STREAM_OK) or something stops it. */
static enum stream_status
converse(struct session *s)
{
	enum stream_status status;
	const struct reply *r;
	struct buf line;

	buf_init(&line, SMTP_LINE_MAX + 2);
	status = STREAM_OK;
	while (s->smtp.state != SMTP_QUIT && status == STREAM_OK) {
		r = next_reply(s, &line, &status);
		if (r == NULL)
			break;
		status = send_reply(s, r);
		if (s->smtp.state == SMTP_DATA && status == STREAM_OK)
			status = receive(s);
		else if ((s->inject.fd != -1 || s->inject.failed) &&
			 s->smtp.transaction.nrecipients == 0 &&
			 s->smtp.state <= SMTP_READY)
			inject_end(&s->inject);
		if (smtp_too_many_errors(&s->smtp) && status == STREAM_OK) {
			(void)send_reply(s, smtp_reply(REPLY_TOO_MANY_ERRORS));
			break;
		}
	}
	buf_free(&line);
	return status;
}

/* NULL when there is no next command; *status says why. */
static const struct reply *
next_reply(struct session *s, struct buf *line, enum stream_status *status)
{
	/* Pipelined commands must not outrun SIGTERM and the limit. */
	*status = session_may_go_on(s);
	if (*status != STREAM_OK)
		return NULL;
	*status = stream_read_line(&s->client, line, SMTP_LINE_MAX, s->end_ms);
	switch (*status) {
	case STREAM_OK:
		return smtp_command(&s->smtp, buf_text(line), line->len);
	case STREAM_TOO_LONG:
		*status = STREAM_OK;
		return smtp_refuse_line(&s->smtp, REPLY_LINE_TOO_LONG);
	case STREAM_BARE_LF:
		*status = STREAM_OK;
		return smtp_refuse_line(&s->smtp, REPLY_BARE_LF);
	case STREAM_END:
	case STREAM_TIMEOUT:
	case STREAM_STOP:
		break;
	}
	return NULL;
}

static enum stream_status
session_may_go_on(const struct session *s)
{
	struct pollfd stop = { .fd = s->client.stop, .events = POLLIN };

	if (poll(&stop, 1, 0) == 1)
		return STREAM_STOP;
	return clock_left_ms(s->end_ms) == 0 ? STREAM_TIMEOUT : STREAM_OK;
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
		.peer = buf_text(&s->peer.text),
		.swift = &s->swift,
	};
	enum stream_status status;
	const struct reply *r;
	struct data data;

	/* The client sends while the libraries are loaded. */
	status = stream_flush(&s->client, s->end_ms);
	deliver_open(&d);
	smtp_data_init(&data);
	if (status == STREAM_OK)
		status = receive_data(s, &d, &data);
	if (status == STREAM_OK) {
		r = deliver_commit(&d, data.bare_lf);
		deliver_close(&d);
		/*
		 * With 2yz responsibility passes to us, and it has passed on
		 * already: every object is confirmed (RFC 5321 section 6.1).
		 */
		status = send_reply(s, r);
		if (status == STREAM_OK)
			status = stream_flush(&s->client,
			    clock_ms() + s->client.idle_ms);
		if (status != STREAM_OK && r->code < 300)
			log_lost(s, "the client went away before the reply, "
				    "it may send a duplicate");
		smtp_end_of_data(&s->smtp, r);
	} else {
		deliver_close(&d);
	}
	return status;
}

static enum stream_status
receive_data(struct session *s, struct delivery *d, struct data *data)
{
	enum stream_status status;
	const char *text;
	size_t len;

	while (data->state != DATA_END) {
		status = stream_peek(&s->client, &text, &len, s->end_ms);
		if (status != STREAM_OK)
			return status;
		len = smtp_data_decode(data, text, len,
		    d->broken ? drop_content : message_add, &d->message);
		stream_take(&s->client, len);
	}
	return STREAM_OK;
}

static void
drop_content(void *context, const char *text, size_t len)
{
	(void)context;
	(void)text;
	(void)len;
}

/* smtp_settle_fn: who takes the recipient, and if nobody does, why. */
static const struct reply *
settle(void *context, struct recipient *recipient)
{
	struct session *s = context;

	recipient->account = route_find(s->config, &recipient->address);
	if (recipient->account == ROUTE_FAULT)
		return smtp_reply(REPLY_WRITE_ERROR);
	if (recipient->account != ROUTE_NONE)
		return smtp_reply(REPLY_RCPT_OK);
	return settle_unclaimed(s, recipient);
}

static const struct reply *
settle_unclaimed(struct session *s, struct recipient *recipient)
{
	enum inject_outcome outcome;
	const struct reply *r;

	if (s->config->smtp.reinject == NULL || !s->peer.local) {
		r = smtp_reply(s->config->smtp.unknown_recipient_code == 550
				   ? REPLY_UNKNOWN_550
				   : REPLY_UNKNOWN_450);
		log_refused(s, recipient, r, "no account claims it");
		return r;
	}
	outcome = inject_recipient(&s->inject, &s->smtp.transaction, recipient);
	if (outcome == INJECT_OK)
		return smtp_reply(REPLY_RCPT_OK);
	r = outcome == INJECT_REFUSED
		? smtp_compose(&s->smtp, s->inject.code, NULL, "%s",
		      buf_text(&s->inject.reply))
		: smtp_reply(REPLY_WRITE_ERROR);
	log_refused(s, recipient, r, buf_text(&s->inject.reason));
	return r;
}

static void
log_refused(struct session *s, const struct recipient *recipient,
    const struct reply *r, const char *reason)
{
	struct log_line l;
	char status[16];

	log_begin(&l, r->code >= 500 ? LOG_REJECTED : LOG_DEFERRED,
	    r->code >= 500 ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING);
	deliver_log_client(&l, buf_text(&s->peer.text), &s->smtp.transaction);
	log_add(&l, "to", "<%s>", buf_text(&recipient->path));
	log_add(&l, "dsn", "%s", smtp_reply_status(r, status));
	log_add_quoted(&l, "reason", reason);
	log_end(&l);
}

/* The last words, and a line in the log where mail may be missing. */
static void
say_goodbye(struct session *s, enum stream_status status)
{
	if (status == STREAM_TIMEOUT)
		(void)send_reply(s, smtp_reply(REPLY_TIMEOUT));
	if (status == STREAM_STOP)
		(void)send_reply(s, smtp_reply(REPLY_STOPPING));
	(void)stream_flush(&s->client, clock_ms() + 1000);
	if (s->smtp.state != SMTP_MAIL && s->smtp.state != SMTP_RCPT &&
	    s->smtp.state != SMTP_DATA)
		return;
	log_lost(s, status == STREAM_TIMEOUT
			? "the client was silent for too long"
		    : status == STREAM_STOP ? "stopped by SIGTERM"
		    : s->smtp.state == SMTP_DATA
			? "the client went away in the mail data"
			: "the client went away in the envelope");
}

static void
log_lost(struct session *s, const char *reason)
{
	struct log_line l;

	deliver_log_begin(&l, LOG_LOST, LOG_LEVEL_INFO, buf_text(&s->peer.text),
	    &s->smtp.transaction, NULL);
	log_add_quoted(&l, "reason", reason);
	log_end(&l);
}

static enum stream_status
send_reply(struct session *s, const struct reply *r)
{
	enum stream_status status;
	struct buf text;

	buf_init(&text, 8 * SMTP_LINE_MAX);
	status = STREAM_END;
	if (smtp_format(r, &text) == 0)
		status =
		    stream_write(&s->client, text.data, text.len, s->end_ms);
	buf_free(&text);
	return status;
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * All or nothing.  The order of commitment: the content goes to the
 * re-injection server, its dot held back; then the uploads; then the dot;
 * then 2yz.  Until the dot everything can be taken back.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "deliver.h"
#include "scan.h"
#include "statsd.h"

#include "banned.h"

enum {
	WITHDRAW_LATE_MS = 8000, /* after the deadline, Postfix waits 10 s */
	LOG_PATH_MAX = 256       /* octets of a path; RFC 5321 4.5.3.1.3 */
};

/* One object: an account's container and who it is for. */
struct place {
	struct envelope envelope;
	struct swift_put put; /* its account is named first in the file */
};

void
deliver_open(struct delivery *d)
{
	const struct transaction *t = &d->smtp->transaction;
	size_t i;

	for (i = 0; i < FACTS; i++)
		d->facts[i].max = FACT_MAX;
	d->counters.max = STATSD_MAX;
	d->all = (struct envelope){ t, t->recipients, t->nrecipients };
	d->started_ms = clock_ms();
	message_open(&d->message, d->config->smtp.spool_directory,
	    d->config->smtp.message_size_limit);
}

/* Counts a message's outcome, with its account and its reply, or NULL. */
static void
count(struct delivery *d, enum log_verb verb, const struct account *a,
    const struct reply *r)
{
	static const char *const outcomes[] = {
		[LOG_STORED] = "stored",
		[LOG_DEFERRED] = "deferred",
		[LOG_REJECTED] = "rejected",
		[LOG_FORWARDED] = "forwarded",
		[LOG_IN_DOUBT] = "in_doubt",
		[LOG_LOST] = "lost",
	};
	char status[16];
	const struct statsd_tags tags = { .outcome = outcomes[verb],
		.account = a == NULL ? NULL : a->name,
		.dsn = r == NULL ? NULL : smtp_reply_status(r, status) };

	if (d->config->smtp.statsd == NULL)
		return;
	statsd_add(&d->counters, "messages", 1, "c", &tags);
}

/* What a place has taken, and how long that took. */
static void
count_place(struct delivery *d, const struct swift_put *p)
{
	const struct statsd_tags at = { .account = p->account->name };
	const struct statsd_tags none = { 0 };
	struct buf *c = &d->counters;

	if (d->config->smtp.statsd == NULL)
		return;
	statsd_add(c, "octets", d->message.size, "c", &at);
	statsd_add(c, "receive", d->ended_ms - d->started_ms, "ms", &at);
	statsd_add(c, "auth", p->auth_ms, "ms", &at);
	statsd_add(c, "put", p->put_ms, "ms", &at);
	statsd_add(c, "total", clock_ms() - d->started_ms, "ms", &at);
	statsd_add(c, "tries", p->tries, "c", &none);
}

void
deliver_close(struct delivery *d)
{
	size_t i;

	if (d->counters.len == 0)
		count(d, LOG_LOST, NULL, NULL);
	statsd_send(d->config->smtp.statsd, &d->counters);
	buf_free(&d->counters);
	for (i = 0; i < FACTS; i++)
		buf_free(&d->facts[i]);
	for (i = 0; i < d->nplaces; i++) {
		free(d->places[i].envelope.recipients);
		swift_put_free(&d->places[i].put);
	}
	free(d->places);
	free(d->injected.recipients);
	message_close(&d->message);
}

static void
add_path(struct log_line *l, const char *key, const char *path)
{
	BUF(escaped, LOG_LINE_MAX);

	log_escape(&escaped, path, strlen(path), LOG_PATH_MAX);
	log_add(l, key, "<%s>", buf_text(&escaped));
}

void
deliver_log(struct log_line *l, enum log_verb verb, const char *peer,
    const struct envelope *e)
{
	const struct transaction *t = e->transaction;
	BUF(client, LOG_LINE_MAX);
	BUF(escaped, LOG_LINE_MAX);
	const char *addr = object_client_addr(t);
	const char *name = t->xforward[XFORWARD_NAME];
	size_t i;

	buf_addf(&client, "%s[%s]", name == NULL ? "unknown" : name,
	    *addr == '\0' ? "unknown" : addr);
	log_escape(&escaped, buf_text(&client), client.len, LOG_PATH_MAX);
	log_begin(l, verb,
	    verb == LOG_DEFERRED || verb == LOG_IN_DOUBT ? LOG_LEVEL_WARNING
							 : LOG_LEVEL_INFO);
	log_add(l, "client", "%s",
	    t->xforward_used ? buf_text(&escaped) : peer);
	add_path(l, "from", t->reverse_path == NULL ? "" : t->reverse_path);
	for (i = 0; i < e->n; i++)
		add_path(l, "to", e->recipients[i]->path);
}

void
deliver_log_end(struct log_line *l, const struct reply *r, const char *reason)
{
	char status[16];

	log_add(l, "dsn", "%s", smtp_reply_status(r, status));
	log_add_quoted(l, "reason", reason);
	log_end(l);
}

/* What is known of the message beyond its envelope. */
static void
add_facts(struct log_line *l, const struct buf facts[FACTS])
{
	const struct buf *id = &facts[FACT_MESSAGE_ID];
	const char *text = buf_text(id);
	size_t bare;
	BUF(escaped, LOG_LINE_MAX);

	bare = id->len > 1 && text[0] == '<' && text[id->len - 1] == '>';
	log_escape(&escaped, text + bare, id->len - 2 * bare, LOG_PATH_MAX);
	if (id->len > 0)
		log_add(l, "message-id", "<%s>", buf_text(&escaped));
	if (facts[FACT_VERDICT].len > 0)
		log_add(l, "verdict", "%s", facts[FACT_VERDICT].data);
	if (facts[FACT_SCORE].len > 0)
		log_add(l, "score", "%s", facts[FACT_SCORE].data);
}

static void
add_message(const struct delivery *d, struct log_line *l,
    const struct envelope *e)
{
	log_add(l, "nrcpt", "%zu", e->n);
	log_add(l, "size", "%lld", (long long)d->message.size);
	add_facts(l, d->facts);
}

static void
begin_line(struct delivery *d, struct log_line *l, enum log_verb verb,
    const struct envelope *e)
{
	deliver_log(l, verb, d->peer, e);
	add_message(d, l, e);
}

/* Takes back what is or may be stored: the client will come again. */
static void
withdraw(struct delivery *d)
{
	int64_t deadline_ms;
	size_t i;

	/* The reply must still come before the front server gives up. */
	deadline_ms =
	    clock_within(SWIFT_DELETE_MS, d->deadline_ms + WITHDRAW_LATE_MS);
	for (i = 0; i < d->nplaces; i++)
		swift_withdraw(*d->swift, &d->places[i].put, deadline_ms);
}

/* Logs why there is no 2yz, and returns the reply; nothing stays stored. */
static const struct reply *
refuse(struct delivery *d, enum log_verb verb, const struct reply *r,
    const char *reason)
{
	struct log_line l;

	begin_line(d, &l, verb, &d->all);
	deliver_log_end(&l, r, reason);
	count(d, verb, NULL, r);
	withdraw(d);
	return r;
}

/* What is wrong with the message itself; NULL when nothing is. */
static const struct reply *
refuse_message(struct delivery *d, bool bare_lf)
{
	BUF(reason, LOG_LINE_MAX);
	const struct reply *r;
	int fault;

	(void)message_finish(&d->message);
	fault = d->message.fault;
	r = d->message.too_big ? &reply_too_big : &reply_bare_lf_data;
	if (d->message.too_big || bare_lf)
		return refuse(d, LOG_REJECTED, r, r->text);
	if (fault == 0)
		return NULL;
	r = &reply_write_error;
	if (fault == ENOSPC || fault == EDQUOT || fault == EFBIG)
		r = &reply_no_storage;
	else if (fault == ENOENT || fault == EACCES || fault == ENOTDIR ||
		 fault == EROFS || fault == EPERM)
		r = &reply_config_error;
	if (fault != ENOMEM)
		buf_addf(&reason,
		    "spool_directory %s: ", d->config->smtp.spool_directory);
	buf_adds(&reason, strerror(fault));
	return refuse(d, LOG_DEFERRED, r, buf_text(&reason));
}

/* What rspamd has against the message; NULL when that is nothing. */
static const struct reply *
refuse_verdict(struct delivery *d)
{
	const struct reply *r;

	message_id(&d->message, &d->facts[FACT_MESSAGE_ID]);
	if (d->config->smtp.rspamd == NULL)
		return NULL;
	r = scan_message(d->smtp, &d->message, d->deadline_ms, d->facts);
	if (r == NULL)
		return NULL;
	return refuse(d, r->code >= 500 ? LOG_REJECTED : LOG_DEFERRED, r,
	    r->text);
}

/* The place of an account, which may be that of another one before it. */
static struct place *
place_for(struct delivery *d, const struct account *a)
{
	struct place *p;
	size_t i;

	for (i = 0; i < d->nplaces; i++)
		if (config_same_place(d->places[i].put.account, a))
			return &d->places[i];
	p = &d->places[d->nplaces++];
	swift_put_init(&p->put, a);
	return p;
}

/* Sorts the recipients into places, in the order of the accounts. */
static int
add_places(struct delivery *d)
{
	const struct transaction *t = &d->smtp->transaction;
	struct envelope *e;
	size_t i;
	int k;

	d->places = calloc(d->config->naccounts, sizeof(d->places[0]));
	if (d->places == NULL)
		return -1;
	for (k = ROUTE_NONE; k < (int)d->config->naccounts; k++) {
		for (i = 0; i < t->nrecipients; i++) {
			if (t->recipients[i]->account != k)
				continue;
			e = k == ROUTE_NONE
				? &d->injected
				: &place_for(d, &d->config->accounts[k])
				       ->envelope;
			if (e->recipients == NULL)
				e->recipients = calloc(t->nrecipients,
				    sizeof(*e->recipients));
			if (e->recipients == NULL)
				return -1;
			e->transaction = t;
			e->recipients[e->n++] = t->recipients[i];
		}
	}
	return 0;
}

/* A name and metadata for each place. */
static int
fill_places(struct delivery *d)
{
	char content[DIGEST_SHA256_HEX], fingerprint[DIGEST_SHA256_HEX];
	struct place *p;
	size_t i;

	if (message_content_hex(&d->message, content) == -1)
		return -1;
	for (i = 0; i < d->nplaces; i++) {
		p = &d->places[i];
		errno = ENOMEM;
		if (object_fingerprint(&p->envelope, content, fingerprint) ==
		    -1)
			return -1;
		object_metadata(&p->put.metadata, &p->envelope,
		    d->message.sha256_hex, fingerprint, d->facts);
		object_name(&p->put.name, &d->ended, d->message.size);
		p->put.message = &d->message;
		p->put.when = d->ended;
		p->put.deadline_ms = d->deadline_ms;
		p->put.client = d->client->out;
		errno = p->put.metadata.error != 0 ? p->put.metadata.error
						   : p->put.name.error;
		if (errno != 0)
			return -1;
	}
	return 0;
}

static const struct reply *
refuse_store(struct delivery *d, const struct swift_put *p)
{
	static const struct reply *const replies[] = {
		[SWIFT_TEMPORARY] = &reply_write_error,
		[SWIFT_MISCONFIGURED] = &reply_config_error,
		[SWIFT_FULL] = &reply_no_storage,
	};
	struct log_line l;

	begin_line(d, &l, LOG_DEFERRED, &d->all);
	if (p->outcome == SWIFT_MISCONFIGURED)
		l.level = LOG_LEVEL_ERROR;
	log_add(&l, "account", "%s", p->account->name);
	log_add(&l, "container", "%s", p->account->container);
	swift_log_request(&l, p);
	deliver_log_end(&l, replies[p->outcome], buf_text(&p->reason));
	count(d, LOG_DEFERRED, p->account, replies[p->outcome]);
	withdraw(d);
	return replies[p->outcome];
}

/* Nobody hears the answer, or nobody waits for it: it is not begun then. */
static const struct reply *
refuse_late(struct delivery *d)
{
	if (stream_peer_is_gone(d->client))
		return refuse(d, LOG_LOST, &reply_write_error,
		    "the client went away before the reply");
	if (clock_left_ms(d->deadline_ms) == 0)
		return refuse(d, LOG_DEFERRED, &reply_write_error,
		    "the deadline has passed");
	return NULL;
}

/* Uploads to every place; NULL when all of them are confirmed. */
static const struct reply *
store_all(struct delivery *d)
{
	const struct reply *r;
	struct place *p;
	size_t i;

	if (d->nplaces == 0)
		return NULL;
	if (*d->swift == NULL)
		*d->swift = swift_open(d->config);
	if (*d->swift == NULL || fill_places(d) == -1)
		return refuse(d, LOG_DEFERRED, &reply_write_error,
		    strerror(errno));
	for (i = 0; i < d->nplaces; i++) {
		p = &d->places[i];
		r = refuse_late(d);
		if (r != NULL)
			return r;
		if (swift_store(*d->swift, &p->put) != SWIFT_STORED)
			return refuse_store(d, &p->put);
	}
	return NULL;
}

/*
 * The answer to the dot was lost: all stays, and the client comes again.  A
 * line for each object: a list may not fit behind that of the recipients.
 */
static const struct reply *
stay_in_doubt(struct delivery *d, const char *reason)
{
	struct log_line l;
	size_t i;

	i = 0;
	do {
		deliver_log(&l, LOG_IN_DOUBT, d->peer, &d->all);
		log_add(&l, "relay", "%s", d->config->smtp.reinject);
		if (i < d->nplaces) {
			log_add(&l, "account", "%s",
			    d->places[i].put.account->name);
			swift_log_object(&l, &d->places[i].put);
		}
		add_message(d, &l, &d->all);
		deliver_log_end(&l, &reply_write_error, reason);
	} while (++i < d->nplaces);
	count(d, LOG_IN_DOUBT, NULL, &reply_write_error);
	return &reply_write_error;
}

/* Replies to a failure of the re-injection server; NULL when there is none. */
static const struct reply *
refuse_inject(struct delivery *d, enum inject_outcome outcome)
{
	const struct reply *r;
	const char *reason = buf_text(&d->inject->reason);

	if (outcome == INJECT_OK)
		return NULL;
	if (outcome == INJECT_IN_DOUBT)
		return stay_in_doubt(d, reason);
	r = outcome == INJECT_FAILED ? &reply_write_error
				     : smtp_compose(d->smtp, d->inject->code,
					   "%s", buf_text(&d->inject->reply));
	return refuse(d, r->code >= 500 ? LOG_REJECTED : LOG_DEFERRED, r,
	    reason);
}

/* All is committed; says under which name. */
static const struct reply *
accept_all(struct delivery *d)
{
	BUF(reply, LOG_LINE_MAX);
	const struct place *p;
	struct log_line l;

	for (p = d->places; p < d->places + d->nplaces; p++) {
		begin_line(d, &l, LOG_STORED, &p->envelope);
		log_add(&l, "account", "%s", p->put.account->name);
		swift_log_object(&l, &p->put);
		log_add(&l, "trans", "%s", buf_text(&p->put.trans));
		log_add(&l, "tries", "%u", p->put.tries);
		log_add(&l, "delays", "%.3f/%.3f/%.3f",
		    (double)(d->ended_ms - d->started_ms) / 1000,
		    (double)p->put.auth_ms / 1000,
		    (double)p->put.put_ms / 1000);
		log_add(&l, "dsn", "2.0.0");
		log_end(&l);
		count(d, LOG_STORED, p->put.account, &reply_forwarded);
		count_place(d, &p->put);
	}
	if (d->injected.n > 0) {
		begin_line(d, &l, LOG_FORWARDED, &d->injected);
		log_add(&l, "relay", "%s", d->config->smtp.reinject);
		log_add(&l, "dsn", "2.0.0");
		log_escape(&reply, buf_text(&d->inject->reply),
		    d->inject->reply.len, INJECT_REPLY_MAX);
		log_add_quoted(&l, "reply", buf_text(&reply));
		log_end(&l);
		count(d, LOG_FORWARDED, NULL, &reply_forwarded);
	}
	if (d->nplaces == 0)
		return &reply_forwarded;
	return smtp_compose(d->smtp, 250, "2.0.0 Ok: stored as %s",
	    buf_text(&d->places[0].put.name));
}

const struct reply *
deliver_commit(struct delivery *d, bool bare_lf)
{
	const struct reply *r;

	(void)clock_gettime(CLOCK_REALTIME, &d->ended);
	/* The client's patience began when its last octets arrived here. */
	d->ended_ms = clock_ms() - stream_silence_ms(d->client);
	if (d->ended_ms < d->started_ms)
		d->ended_ms = d->started_ms;
	d->deadline_ms = d->ended_ms + d->config->smtp.deadline_s * 1000;
	r = refuse_message(d, bare_lf);
	if (r == NULL)
		r = refuse_verdict(d);
	if (r == NULL && add_places(d) == -1)
		r = refuse(d, LOG_DEFERRED, &reply_write_error,
		    strerror(errno));
	if (r == NULL)
		r = refuse_late(d);
	if (r == NULL && d->injected.n > 0)
		r = refuse_inject(d,
		    inject_content(d->inject, &d->message, d->deadline_ms));
	if (r == NULL)
		r = store_all(d);
	/*
	 * The held-back dot.  It is the point of no return: the server takes
	 * responsibility for its recipients when it answers 2yz, and what it
	 * answers otherwise must not leave objects behind, but for an answer
	 * that was lost.
	 */
	if (r == NULL && d->injected.n > 0)
		r = refuse_late(d);
	if (r == NULL && d->injected.n > 0)
		r = refuse_inject(d, inject_commit(d->inject, d->deadline_ms));
	/* Dropping the connection is what takes the content back. */
	inject_end(d->inject);
	return r == NULL ? accept_all(d) : r;
}

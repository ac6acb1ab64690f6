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
#include "lazy.h"
#include "object.h"
#include "route.h"

#include "banned.h"

enum {
	WITHDRAW_SPARE_MS = 2000, /* for the reply's own way */
	WITHDRAW_MS = 10000,      /* for deleting what was stored */
	LOG_TO_MAX = 1024         /* octets of recipients in a line */
};

/* One object: an account's container and who it is for. */
struct place {
	const struct account *account; /* borrowed; named first in the file */
	size_t *recipients;            /* owned; indexes into the transaction */
	size_t nrecipients;
	struct swift_object object;
	struct swift_result result;
	struct buf metadata;
	bool stored;
};

static int add_places(struct delivery *d);
static struct place *place_for(struct delivery *d, const struct account *a);
static void add_fingerprints(struct delivery *d);
static const struct reply *refuse_fault(struct delivery *d, bool bare_lf);
static const struct reply *refuse_inject(struct delivery *d,
    enum inject_outcome outcome);
static const struct reply *store_all(struct delivery *d);
static int name_objects(struct delivery *d);
static const struct reply *refuse_store(struct delivery *d,
    const struct place *p);
static const struct reply *forward(struct delivery *d);
static const struct reply *client_is_gone(struct delivery *d);
static void withdraw(struct delivery *d);
static void log_left_behind(const struct place *p,
    const struct swift_result *deletion);
static void log_object(struct log_line *l, const struct place *p);
static void log_outcome(struct delivery *d, enum log_verb verb,
    const struct reply *r, const char *reason);
static void log_stored(struct delivery *d, const struct place *p);
static void log_forwarded(struct delivery *d);
static const struct reply *accepted(struct delivery *d);
static void add_to(struct log_line *l, const struct transaction *t,
    const struct recipient *recipient);
static const struct reply *relayed(struct delivery *d);

void
deliver_open(struct delivery *d)
{
	d->started_ms = clock_ms();
	d->message = (struct message){ .fd = -1 };
	if (lazy_load(LAZY_CRYPTO) == -1 || lazy_load(LAZY_CURL) == -1) {
		d->broken = true;
		log_text(LOG_CONFIG, LOG_LEVEL_ERROR, "%s", lazy_error());
		return;
	}
	message_open(&d->message, d->config->smtp.spool_directory,
	    d->config->smtp.message_size_limit,
	    d->smtp->transaction.xforward_used);
	if (add_places(d) == -1)
		d->message.fault = errno;
	else
		add_fingerprints(d);
}

/* Sorts the recipients into places, in the order of the accounts. */
static int
add_places(struct delivery *d)
{
	const struct transaction *t;
	struct place *p;
	size_t account, i;

	t = &d->smtp->transaction;
	d->places = calloc(d->config->naccounts + 1, sizeof(d->places[0]));
	if (d->places == NULL)
		return -1;
	for (i = 0; i < t->nrecipients; i++)
		if (t->recipients[i]->account == ROUTE_NONE)
			d->ninjected++;
	for (account = 0; account < d->config->naccounts; account++) {
		for (i = 0; i < t->nrecipients; i++) {
			if (t->recipients[i]->account != (ptrdiff_t)account)
				continue;
			p = place_for(d, &d->config->accounts[account]);
			if (p->recipients == NULL)
				p->recipients = calloc(t->nrecipients,
				    sizeof(*p->recipients));
			if (p->recipients == NULL)
				return -1;
			p->recipients[p->nrecipients++] = i;
		}
	}
	return 0;
}

/* The place of an account, which may be that of another one before it. */
static struct place *
place_for(struct delivery *d, const struct account *a)
{
	struct place *p;
	size_t i;

	for (i = 0; i < d->nplaces; i++)
		if (config_same_place(d->places[i].account, a))
			return &d->places[i];
	p = &d->places[d->nplaces++];
	p->account = a;
	buf_init(&p->metadata, 4 * OBJECT_METADATA_MAX);
	buf_init(&p->object.name, OBJECT_NAME_MAX);
	swift_result_init(&p->result);
	return p;
}

static void
add_fingerprints(struct delivery *d)
{
	struct object_envelope envelope;
	struct buf head;
	size_t i;

	for (i = 0; i < d->nplaces; i++) {
		envelope = (struct object_envelope){
			&d->smtp->transaction,
			d->places[i].recipients,
			d->places[i].nrecipients,
		};
		buf_init(&head,
		    (envelope.nrecipients + 2) * (SMTP_LINE_MAX + 1));
		if (object_fingerprint_head(&head, &envelope) == -1)
			d->message.fault = errno;
		else
			message_add_fingerprint(&d->message, head.data,
			    head.len);
		buf_free(&head);
	}
}

const struct reply *
deliver_commit(struct delivery *d, bool bare_lf)
{
	const struct reply *r;

	(void)clock_gettime(CLOCK_REALTIME, &d->ended);
	d->ended_ms = clock_ms();
	d->deadline_ms = d->ended_ms + d->config->smtp.deadline_s * 1000;
	r = refuse_fault(d, bare_lf);
	if (r == NULL && d->ninjected > 0)
		r = refuse_inject(d,
		    inject_content(d->inject, &d->message, d->deadline_ms));
	if (r == NULL)
		r = store_all(d);
	if (r == NULL && d->ninjected > 0)
		r = forward(d);
	/* Dropping the connection is what takes the content back. */
	inject_end(d->inject);
	return r == NULL ? accepted(d) : r;
}

/* What is wrong with the message itself; NULL when nothing is. */
static const struct reply *
refuse_fault(struct delivery *d, bool bare_lf)
{
	const struct reply *r;
	int error;

	if (!d->broken && message_finish(&d->message) == 0 && !bare_lf)
		return NULL;
	error = d->message.fault;
	if (d->message.too_big)
		r = smtp_reply(REPLY_TOO_BIG);
	else if (bare_lf)
		r = smtp_reply(REPLY_BARE_LF_DATA);
	else if (error == ENOSPC || error == EDQUOT || error == EFBIG)
		r = smtp_reply(REPLY_NO_STORAGE);
	else if (d->broken || error == ENOENT || error == EACCES ||
		 error == ENOTDIR || error == EROFS || error == EPERM)
		r = smtp_reply(REPLY_CONFIG_ERROR);
	else
		r = smtp_reply(REPLY_WRITE_ERROR);
	if (d->message.too_big || bare_lf)
		log_outcome(d, LOG_REJECTED, r, r->text);
	else
		log_outcome(d, LOG_DEFERRED, r,
		    d->broken ? lazy_error() : strerror(error));
	return r;
}

/* Replies to a failure before the dot; NULL when there was none. */
static const struct reply *
refuse_inject(struct delivery *d, enum inject_outcome outcome)
{
	const struct reply *r;

	if (outcome == INJECT_OK)
		return NULL;
	r = outcome == INJECT_REFUSED ? relayed(d)
				      : smtp_reply(REPLY_WRITE_ERROR);
	log_outcome(d, r->code >= 500 ? LOG_REJECTED : LOG_DEFERRED, r,
	    buf_text(&d->inject->reason));
	return r;
}

/* The re-injection server's own words. */
static const struct reply *
relayed(struct delivery *d)
{
	return smtp_compose(d->smtp, d->inject->code, NULL, "%s",
	    buf_text(&d->inject->reply));
}

/* Uploads to every place; NULL when all of them are confirmed. */
static const struct reply *
store_all(struct delivery *d)
{
	const struct reply *r;
	struct place *p;
	size_t i;

	/* Nobody would hear the answer: the client must try again. */
	if (stream_peer_is_gone(d->client))
		return client_is_gone(d);
	if (d->nplaces > 0 && *d->swift == NULL)
		*d->swift = swift_open(d->config);
	if (d->nplaces > 0 && (*d->swift == NULL || name_objects(d) == -1)) {
		log_outcome(d, LOG_DEFERRED, smtp_reply(REPLY_WRITE_ERROR),
		    strerror(errno));
		return smtp_reply(REPLY_WRITE_ERROR);
	}
	for (i = 0; i < d->nplaces; i++) {
		p = &d->places[i];
		/* One name wherever it goes, also when it had to change. */
		if (i > 0 &&
		    buf_add(&p->object.name, buf_text(&p[-1].object.name),
			p[-1].object.name.len) == -1) {
			r = smtp_reply(REPLY_WRITE_ERROR);
			log_outcome(d, LOG_DEFERRED, r, strerror(errno));
			withdraw(d);
			return r;
		}
		if (swift_store(*d->swift, p->account, &p->object,
			d->deadline_ms, &p->result) != SWIFT_STORED)
			return refuse_store(d, p);
		p->stored = true;
	}
	return NULL;
}

/* A name for the first place; metadata for each. */
static int
name_objects(struct delivery *d)
{
	struct object_envelope envelope;
	char fingerprint[MESSAGE_SHA256_HEX];
	struct place *p;
	size_t i;
	int result;

	result =
	    object_name(&d->places[0].object.name, &d->ended, d->message.size);
	for (i = 0; i < d->nplaces && result == 0; i++) {
		p = &d->places[i];
		envelope = (struct object_envelope){ &d->smtp->transaction,
			p->recipients, p->nrecipients };
		message_fingerprint(&d->message, i, fingerprint);
		p->object.when = d->ended;
		p->object.message = &d->message;
		result = object_metadata(&p->metadata, &envelope,
		    d->message.sha256_hex, fingerprint);
		p->object.metadata = buf_text(&p->metadata);
	}
	return result;
}

static const struct reply *
refuse_store(struct delivery *d, const struct place *p)
{
	static const enum reply_id ids[] = {
		[SWIFT_TEMPORARY] = REPLY_WRITE_ERROR,
		[SWIFT_MISCONFIGURED] = REPLY_CONFIG_ERROR,
		[SWIFT_FULL] = REPLY_NO_STORAGE,
	};
	const struct reply *r;
	struct log_line l;

	r = smtp_reply(ids[p->result.outcome]);
	deliver_log_begin(&l, LOG_DEFERRED,
	    p->result.outcome == SWIFT_MISCONFIGURED ? LOG_LEVEL_ERROR
						     : LOG_LEVEL_WARNING,
	    d->peer, &d->smtp->transaction, NULL);
	log_add(&l, "nrcpt", "%zu", d->smtp->transaction.nrecipients);
	log_add(&l, "size", "%lld", (long long)d->message.size);
	log_add(&l, "account", "%s", p->account->name);
	log_add(&l, "container", "%s", p->account->container);
	log_add(&l, "request", "%s", buf_text(&p->result.request));
	log_add(&l, "status", "%ld", p->result.status);
	if (p->result.trans.len > 0)
		log_add(&l, "trans", "%s", buf_text(&p->result.trans));
	log_add(&l, "tries", "%u", p->result.tries);
	log_add(&l, "dsn", "%s", r->status);
	log_add_quoted(&l, "reason", buf_text(&p->result.reason));
	log_end(&l);
	withdraw(d);
	return r;
}

/*
 * The held-back dot.  It is the point of no return: the server takes
 * responsibility for its recipients when it answers 2yz, and what it answers
 * otherwise must not leave objects behind, but for an answer that was lost.
 */
static const struct reply *
forward(struct delivery *d)
{
	enum inject_outcome outcome;
	const struct reply *r;

	if (stream_peer_is_gone(d->client))
		return client_is_gone(d);
	r = smtp_reply(REPLY_WRITE_ERROR);
	if (clock_left_ms(d->deadline_ms) == 0) {
		log_outcome(d, LOG_DEFERRED, r, "the deadline has passed");
		withdraw(d);
		return r;
	}
	outcome = inject_commit(d->inject, d->deadline_ms);
	if (outcome == INJECT_OK)
		return NULL;
	if (outcome == INJECT_IN_DOUBT) {
		log_outcome(d, LOG_IN_DOUBT, r, buf_text(&d->inject->reason));
		return r;
	}
	r = refuse_inject(d, outcome);
	withdraw(d);
	return r;
}

static const struct reply *
client_is_gone(struct delivery *d)
{
	const struct reply *r;

	r = smtp_reply(REPLY_WRITE_ERROR);
	log_outcome(d, LOG_LOST, r, "the client went away before the reply");
	withdraw(d);
	return r;
}

/* Deletes what was stored: the client will be told to come again. */
static void
withdraw(struct delivery *d)
{
	struct swift_result result;
	int64_t deadline_ms;
	size_t i;

	/* The reply must still come before the front server gives up. */
	deadline_ms = clock_ms() + WITHDRAW_MS;
	if (deadline_ms > d->deadline_ms + WITHDRAW_MS - WITHDRAW_SPARE_MS)
		deadline_ms = d->deadline_ms + WITHDRAW_MS - WITHDRAW_SPARE_MS;
	for (i = 0; i < d->nplaces; i++) {
		if (!d->places[i].stored)
			continue;
		swift_result_init(&result);
		if (swift_delete(*d->swift, d->places[i].account,
			&d->places[i].object, deadline_ms, &result) == -1)
			log_left_behind(&d->places[i], &result);
		d->places[i].stored = false;
		swift_result_free(&result);
	}
}

static void
log_left_behind(const struct place *p, const struct swift_result *deletion)
{
	struct log_line l;
	struct buf reason;

	buf_init(&reason, LOG_LINE_MAX);
	(void)buf_addf(&reason, "possible duplicate: not deleted, %s",
	    buf_text(&deletion->reason));
	log_begin(&l, LOG_IN_DOUBT, LOG_LEVEL_WARNING);
	log_object(&l, p);
	log_add_quoted(&l, "reason", buf_text(&reason));
	log_end(&l);
	buf_free(&reason);
}

static void
log_object(struct log_line *l, const struct place *p)
{
	log_add(l, "object", "%s/%s%s", p->account->container,
	    p->account->prefix, buf_text(&p->object.name));
}

/* All is committed; says under which name. */
static const struct reply *
accepted(struct delivery *d)
{
	size_t i;

	for (i = 0; i < d->nplaces; i++)
		log_stored(d, &d->places[i]);
	if (d->ninjected > 0)
		log_forwarded(d);
	if (d->nplaces == 0)
		return smtp_reply(REPLY_FORWARDED);
	return smtp_compose(d->smtp, 250, "2.0.0", "Ok: stored as %s",
	    buf_text(&d->places[0].object.name));
}

static void
log_stored(struct delivery *d, const struct place *p)
{
	struct log_line l;

	deliver_log_begin(&l, LOG_STORED, LOG_LEVEL_INFO, d->peer,
	    &d->smtp->transaction,
	    d->smtp->transaction.recipients[p->recipients[0]]);
	log_add(&l, "nrcpt", "%zu", p->nrecipients);
	log_add(&l, "size", "%lld", (long long)d->message.size);
	log_object(&l, p);
	log_add(&l, "trans", "%s", buf_text(&p->result.trans));
	log_add(&l, "tries", "%u", p->result.tries);
	log_add(&l, "delays", "%.3f/%.3f/%.3f",
	    (double)(d->ended_ms - d->started_ms) / 1000,
	    (double)p->result.auth_ms / 1000, (double)p->result.put_ms / 1000);
	log_add(&l, "dsn", "2.0.0");
	log_end(&l);
}

static void
log_forwarded(struct delivery *d)
{
	const struct transaction *t;
	struct log_line l;
	size_t i;

	t = &d->smtp->transaction;
	for (i = 0; i < t->nrecipients; i++)
		if (t->recipients[i]->account == ROUTE_NONE)
			break;
	deliver_log_begin(&l, LOG_FORWARDED, LOG_LEVEL_INFO, d->peer, t,
	    t->recipients[i]);
	log_add(&l, "nrcpt", "%zu", d->ninjected);
	log_add(&l, "size", "%lld", (long long)d->message.size);
	log_add(&l, "relay", "%s", d->config->smtp.reinject);
	log_add(&l, "dsn", "2.0.0");
	log_add_quoted(&l, "reply", buf_text(&d->inject->reply));
	log_end(&l);
}

static void
log_outcome(struct delivery *d, enum log_verb verb, const struct reply *r,
    const char *reason)
{
	struct log_line l;
	char status[16];

	deliver_log_begin(&l, verb,
	    verb == LOG_REJECTED || verb == LOG_LOST ? LOG_LEVEL_INFO
						     : LOG_LEVEL_WARNING,
	    d->peer, &d->smtp->transaction, NULL);
	log_add(&l, "nrcpt", "%zu", d->smtp->transaction.nrecipients);
	log_add(&l, "size", "%lld", (long long)d->message.size);
	log_add(&l, "dsn", "%s", smtp_reply_status(r, status));
	log_add_quoted(&l, "reason", reason);
	log_end(&l);
}

void
deliver_log_begin(struct log_line *l, enum log_verb verb, enum log_level level,
    const char *peer, const struct transaction *t,
    const struct recipient *recipient)
{
	log_begin(l, verb, level);
	deliver_log_client(l, peer, t);
	add_to(l, t, recipient);
}

void
deliver_log_client(struct log_line *l, const char *peer,
    const struct transaction *t)
{
	const char *addr, *name;

	addr = object_client_addr(t);
	name = buf_text(&t->xforward[XFORWARD_NAME]);
	if (t->xforward_used)
		log_add(l, "client", "%s[%s]", *name == '\0' ? "unknown" : name,
		    *addr == '\0' ? "unknown" : addr);
	else
		log_add(l, "client", "%s", peer);
	log_add(l, "from", "<%s>", buf_text(&t->reverse_path));
}

/* The recipients, as many as a line may have; nrcpt says how many. */
static void
add_to(struct log_line *l, const struct transaction *t,
    const struct recipient *recipient)
{
	struct buf to;
	size_t i;

	buf_init(&to, LOG_TO_MAX);
	for (i = 0; i < t->nrecipients; i++)
		if (recipient == NULL ||
		    t->recipients[i]->account == recipient->account)
			(void)buf_addf(&to, "%s<%s>", to.len == 0 ? "" : ",",
			    buf_text(&t->recipients[i]->path));
	if (to.len == 0 && recipient != NULL)
		(void)buf_addf(&to, "<%s>", buf_text(&recipient->path));
	log_add(l, "to", "%s", buf_text(&to));
	buf_free(&to);
}

void
deliver_close(struct delivery *d)
{
	size_t i;

	for (i = 0; i < d->nplaces; i++) {
		free(d->places[i].recipients);
		buf_free(&d->places[i].metadata);
		buf_free(&d->places[i].object.name);
		swift_result_free(&d->places[i].result);
	}
	free(d->places);
	d->places = NULL;
	d->nplaces = 0;
	message_close(&d->message);
}

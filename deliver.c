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
#include "object.h"
#include "text.h"

#include "banned.h"

enum {
	WITHDRAW_SPARE_MS = 2000, /* for the reply's own way */
	WITHDRAW_MS = 10000,      /* for deleting what was stored */
	LOG_TO_MAX = 1024         /* octets of recipients in a line */
};

/* One object: an account's container and who it is for. */
struct place {
	struct envelope envelope;
	struct swift_put put; /* its account is named first in the file */
	struct buf metadata;
	bool stored;
};

void
deliver_open(struct delivery *d)
{
	d->started_ms = clock_ms();
	d->message = (struct message){ .fd = -1 };
	message_open(&d->message, d->config->smtp.spool_directory,
	    d->config->smtp.message_size_limit);
}

void
deliver_close(struct delivery *d)
{
	size_t i;

	for (i = 0; i < d->nplaces; i++) {
		free(d->places[i].envelope.recipients);
		buf_free(&d->places[i].metadata);
		swift_put_free(&d->places[i].put);
	}
	free(d->places);
	message_close(&d->message);
}

void
deliver_log(struct log_line *l, enum log_verb verb, enum log_level level,
    const char *peer, const struct transaction *t, const struct recipient *to)
{
	BUF(list, LOG_TO_MAX);
	const char *addr, *name;
	size_t i;

	addr = object_client_addr(t);
	name = t->xforward[XFORWARD_NAME];
	log_begin(l, verb, level);
	if (t->xforward_used)
		log_add(l, "client", "%s[%s]", name == NULL ? "unknown" : name,
		    *addr == '\0' ? "unknown" : addr);
	else
		log_add(l, "client", "%s", peer);
	log_add(l, "from", "<%s>", t->reverse_path ? t->reverse_path : "");
	/* As many as a line may have; nrcpt says how many there are. */
	for (i = 0; i < t->nrecipients; i++)
		if (to == NULL || t->recipients[i]->account == to->account)
			buf_addf(&list, "%s<%s>", list.len == 0 ? "" : ",",
			    t->recipients[i]->path);
	if (list.len == 0 && to != NULL)
		buf_addf(&list, "<%s>", to->path);
	log_add(l, "to", "%s", buf_text(&list));
}

void
deliver_log_end(struct log_line *l, const struct reply *r, const char *reason)
{
	char status[16];

	log_add(l, "dsn", "%s", smtp_reply_status(r, status));
	log_add_quoted(l, "reason", reason);
	log_end(l);
}

/* The same with what is known of the message, and of its place. */
static void
begin_line(struct delivery *d, struct log_line *l, enum log_verb verb,
    enum log_level level, const struct recipient *to, size_t n)
{
	deliver_log(l, verb, level, d->peer, &d->smtp->transaction, to);
	log_add(l, "nrcpt", "%zu", n);
	log_add(l, "size", "%lld", (long long)d->message.size);
}

/* Logs why there is no 2yz, and returns the reply. */
static const struct reply *
refuse(struct delivery *d, enum log_verb verb, const struct reply *r,
    const char *reason)
{
	struct log_line l;

	begin_line(d, &l, verb,
	    verb == LOG_REJECTED || verb == LOG_LOST ? LOG_LEVEL_INFO
						     : LOG_LEVEL_WARNING,
	    NULL, d->smtp->transaction.nrecipients);
	deliver_log_end(&l, r, reason);
	return r;
}

/* What is wrong with the message itself; NULL when nothing is. */
static const struct reply *
refuse_message(struct delivery *d, bool bare_lf)
{
	const struct reply *r;
	int fault;

	(void)message_finish(&d->message);
	fault = d->message.fault;
	r = d->message.too_big ? &reply_too_big
	    : bare_lf          ? &reply_bare_lf_data
			       : NULL;
	if (r != NULL)
		return refuse(d, LOG_REJECTED, r, r->text);
	switch (fault) {
	case 0:
		return NULL;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		r = &reply_no_storage;
		break;
	case ENOENT:
	case EACCES:
	case ENOTDIR:
	case EROFS:
	case EPERM:
		r = &reply_config_error;
		break;
	default:
		r = &reply_write_error;
		break;
	}
	return refuse(d, LOG_DEFERRED, r, strerror(fault));
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
	p = &d->places[d->nplaces];
	p->envelope.transaction = &d->smtp->transaction;
	p->envelope.recipients = calloc(d->smtp->transaction.nrecipients,
	    sizeof(*p->envelope.recipients));
	if (p->envelope.recipients == NULL)
		return NULL;
	p->metadata.max = 4 * (size_t)OBJECT_METADATA_MAX;
	swift_put_init(&p->put, a);
	d->nplaces++;
	return p;
}

/* Sorts the recipients into places, in the order of the accounts. */
static int
add_places(struct delivery *d)
{
	const struct transaction *t = &d->smtp->transaction;
	struct place *p;
	size_t i, k;

	d->places = calloc(d->config->naccounts, sizeof(d->places[0]));
	if (d->places == NULL)
		return -1;
	for (k = 0; k < d->config->naccounts; k++) {
		for (i = 0; i < t->nrecipients; i++) {
			if (t->recipients[i]->account != (int)k)
				continue;
			p = place_for(d, &d->config->accounts[k]);
			if (p == NULL)
				return -1;
			p->envelope.recipients[p->envelope.n++] =
			    t->recipients[i];
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
		object_metadata(&p->metadata, &p->envelope,
		    d->message.sha256_hex, fingerprint);
		object_name(&p->put.name, &d->ended, d->message.size);
		p->put.metadata = buf_text(&p->metadata);
		p->put.message = &d->message;
		p->put.when = d->ended;
		p->put.deadline_ms = d->deadline_ms;
		errno = p->metadata.error != 0 ? p->metadata.error
					       : p->put.name.error;
		if (errno != 0)
			return -1;
	}
	return 0;
}

static void
add_object(struct log_line *l, const struct place *p)
{
	log_add(l, "object", "%s/%s%s", p->put.account->container,
	    p->put.account->prefix, buf_text(&p->put.name));
}

/* Deletes what was stored: the client will be told to come again. */
static void
withdraw(struct delivery *d)
{
	struct place *p;
	struct log_line l;
	int64_t deadline_ms;
	long status;
	size_t i;

	/* The reply must still come before the front server gives up. */
	deadline_ms = clock_ms() + WITHDRAW_MS;
	if (deadline_ms > d->deadline_ms + WITHDRAW_MS - WITHDRAW_SPARE_MS)
		deadline_ms = d->deadline_ms + WITHDRAW_MS - WITHDRAW_SPARE_MS;
	for (i = 0; i < d->nplaces; i++) {
		BUF(reason, LOG_LINE_MAX);

		p = &d->places[i];
		buf_adds(&reason, "possible duplicate: not deleted, ");
		if (!p->stored || swift_delete(*d->swift, &p->put, deadline_ms,
				      &reason, &status) == 0)
			continue;
		log_begin(&l, LOG_IN_DOUBT, LOG_LEVEL_WARNING);
		add_object(&l, p);
		log_add_quoted(&l, "reason", buf_text(&reason));
		log_end(&l);
	}
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

	begin_line(d, &l, LOG_DEFERRED,
	    p->outcome == SWIFT_MISCONFIGURED ? LOG_LEVEL_ERROR
					      : LOG_LEVEL_WARNING,
	    NULL, d->smtp->transaction.nrecipients);
	log_add(&l, "account", "%s", p->account->name);
	log_add(&l, "container", "%s", p->account->container);
	log_add(&l, "request", "%s", p->request);
	log_add(&l, "status", "%ld", p->status);
	if (p->trans.len > 0)
		log_add(&l, "trans", "%s", buf_text(&p->trans));
	log_add(&l, "tries", "%u", p->tries);
	deliver_log_end(&l, replies[p->outcome], buf_text(&p->reason));
	withdraw(d);
	return replies[p->outcome];
}

/* Nobody would hear the answer: the client must try again. */
static const struct reply *
refuse_gone(struct delivery *d)
{
	if (!stream_peer_is_gone(d->client))
		return NULL;
	(void)refuse(d, LOG_LOST, &reply_write_error,
	    "the client went away before the reply");
	withdraw(d);
	return &reply_write_error;
}

/* Uploads to every place; NULL when all of them are confirmed. */
static const struct reply *
store_all(struct delivery *d)
{
	const struct reply *r;
	struct place *p;
	size_t i;

	r = refuse_gone(d);
	if (r != NULL || d->nplaces == 0)
		return r;
	if (*d->swift == NULL)
		*d->swift = swift_open(d->config);
	if (*d->swift == NULL || fill_places(d) == -1)
		return refuse(d, LOG_DEFERRED, &reply_write_error,
		    strerror(errno));
	for (i = 0; i < d->nplaces; i++) {
		p = &d->places[i];
		if (swift_store(*d->swift, &p->put) != SWIFT_STORED)
			return refuse_store(d, &p->put);
		p->stored = true;
	}
	return NULL;
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
		return refuse(d, LOG_IN_DOUBT, &reply_write_error, reason);
	r = outcome == INJECT_FAILED
		? &reply_write_error
		: smtp_compose(d->smtp, d->inject->code, NULL, "%s",
		      buf_text(&d->inject->reply));
	return refuse(d, r->code >= 500 ? LOG_REJECTED : LOG_DEFERRED, r,
	    reason);
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

	r = refuse_gone(d);
	if (r != NULL)
		return r;
	if (clock_left_ms(d->deadline_ms) == 0) {
		outcome = INJECT_FAILED;
		r = refuse(d, LOG_DEFERRED, &reply_write_error,
		    "the deadline has passed");
	} else {
		outcome = inject_commit(d->inject, d->deadline_ms);
		r = refuse_inject(d, outcome);
	}
	if (outcome == INJECT_REFUSED || outcome == INJECT_FAILED)
		withdraw(d);
	return r;
}

/* All is committed; says under which name. */
static const struct reply *
accept_all(struct delivery *d)
{
	const struct transaction *t = &d->smtp->transaction;
	const struct place *p;
	struct log_line l;
	size_t i;

	for (p = d->places; p < d->places + d->nplaces; p++) {
		begin_line(d, &l, LOG_STORED, LOG_LEVEL_INFO,
		    p->envelope.recipients[0], p->envelope.n);
		add_object(&l, p);
		log_add(&l, "trans", "%s", buf_text(&p->put.trans));
		log_add(&l, "tries", "%u", p->put.tries);
		log_add(&l, "delays", "%.3f/%.3f/%.3f",
		    (double)(d->ended_ms - d->started_ms) / 1000,
		    (double)p->put.auth_ms / 1000,
		    (double)p->put.put_ms / 1000);
		log_add(&l, "dsn", "2.0.0");
		log_end(&l);
	}
	for (i = 0; d->ninjected > 0; i++) {
		if (t->recipients[i]->account != ROUTE_NONE)
			continue;
		begin_line(d, &l, LOG_FORWARDED, LOG_LEVEL_INFO,
		    t->recipients[i], d->ninjected);
		log_add(&l, "relay", "%s", d->config->smtp.reinject);
		log_add(&l, "dsn", "2.0.0");
		log_add_quoted(&l, "reply", buf_text(&d->inject->reply));
		log_end(&l);
		break;
	}
	if (d->nplaces == 0)
		return &reply_forwarded;
	return smtp_compose(d->smtp, 250, "2.0.0", "Ok: stored as %s",
	    buf_text(&d->places[0].put.name));
}

const struct reply *
deliver_commit(struct delivery *d, bool bare_lf)
{
	const struct transaction *t = &d->smtp->transaction;
	const struct reply *r;
	size_t i;

	(void)clock_gettime(CLOCK_REALTIME, &d->ended);
	d->ended_ms = clock_ms();
	d->deadline_ms = d->ended_ms + d->config->smtp.deadline_s * 1000;
	for (i = 0; i < t->nrecipients; i++)
		d->ninjected += t->recipients[i]->account == ROUTE_NONE ? 1 : 0;
	r = refuse_message(d, bare_lf);
	if (r == NULL && add_places(d) == -1)
		r = refuse(d, LOG_DEFERRED, &reply_write_error,
		    strerror(errno));
	if (r == NULL && d->ninjected > 0)
		r = refuse_inject(d,
		    inject_content(d->inject, &d->message, d->deadline_ms));
	if (r == NULL)
		r = store_all(d);
	if (r == NULL && d->ninjected > 0)
		r = forward(d);
	/* Dropping the connection is what takes the content back. */
	inject_end(d->inject);
	return r == NULL ? accept_all(d) : r;
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The store: logs in to Keystone v3 or v1, or signs TempURLs, and puts, looks
 * at and deletes objects.  Requests are made one after the other; each blocks
 * until its answer, its account's timeout or the deadline.
 *
 * docs.openstack.org/api-ref/object-store,
 * docs.openstack.org/api-ref/identity/v3,
 * docs.openstack.org/swift/latest/api/temporary_url_middleware.html
 */
#ifndef SWIFT_H
#define SWIFT_H

#include <time.h>

#include "buf.h"
#include "config.h"
#include "http.h"
#include "log.h"
#include "message.h"

enum swift_outcome {
	SWIFT_TEMPORARY,     /* may pass */
	SWIFT_MISCONFIGURED, /* an administrator must act */
	SWIFT_FULL,          /* quota or space */
	SWIFT_STORED         /* Swift confirmed it; or the request succeeded */
};

struct swift; /* a session's connections and tokens */

enum {
	SWIFT_DELETE_MS = 10000 /* for taking an object back */
};

/* An object on its way, and what became of it so far. */
struct swift_put {
	const struct account *account; /* borrowed */
	struct buf name;               /* owned; Maildir name, no prefix */
	struct timespec when;          /* for further names */
	struct buf metadata;           /* owned; header lines, each LF */
	const struct message *message; /* borrowed; finished */
	int64_t deadline_ms;           /* a clock_ms() time */
	int client;      /* hangs up when nobody waits any more; or -1 */
	int64_t retries; /* further tries that are left */
	bool fresh;      /* logged in anew */
	bool plain;      /* without metadata */

	enum swift_outcome outcome;
	unsigned int exists; /* tries that may have stored it by its name */
	bool unheard;        /* one may still arrive: not Swift's answer */
	unsigned int tries;
	const char *request;    /* the newest: its method, "" for none */
	long status;            /* of its answer, 0 for none */
	struct buf reason;      /* owned; what was answered or failed */
	struct buf trans;       /* owned; X-Trans-Id of the newest answer */
	int64_t retry_after_ms; /* asked for by it */
	int64_t auth_ms;        /* spent on logging in */
	int64_t put_ms;         /* spent on the rest */
};

void swift_put_init(struct swift_put *p, const struct account *account);
void swift_put_free(struct swift_put *p);

/*
 * Makes the store's side of a session; config is borrowed for its life.
 * Returns NULL with errno when there is no memory.
 */
struct swift *swift_open(const struct config *config);

/* Closes connections, wipes tokens and frees; takes NULL. */
void swift_close(struct swift *s);

/*
 * Stores an object in its account's container: logs in where needed, tries
 * again what may pass while p->client is there, never begins a PUT after the
 * deadline.  429 and 498 are tried again until then.  The name may change when
 * another object has it.  Faults that are tried again are logged here, the
 * last one is in *p.  Returns p->outcome; SWIFT_STORED only for 201 with the
 * message's own ETag, or for an object of that ETag and length found where a
 * try was in doubt.  p->exists says whether swift_withdraw() is needed when
 * the message is refused all the same.
 */
enum swift_outcome swift_store(struct swift *s, struct swift_put *p);

/*
 * Deletes what may be stored under p->name, with as many tries as SWIFT_DELETE_MS
 * and deadline_ms leave time for.  What may be left, or still arrive, is named
 * in an in-doubt line.  Does nothing unless p->exists, which it clears.
 */
void swift_withdraw(struct swift *s, struct swift_put *p, int64_t deadline_ms);

/*
 * The same for an object that is there.  Returns 0 also when it is not, else
 * -1 with the reason appended to *reason and the status, 0 for none, in
 * *status.
 */
int swift_delete(struct swift *s, const struct swift_put *p,
    int64_t deadline_ms, struct buf *reason, long *status);

/* Add the newest request and its answer, or the object, to a line. */
void swift_log_request(struct log_line *l, const struct swift_put *p);
void swift_log_object(struct log_line *l, const struct swift_put *p);

/*
 * HEAD of the object, or of the container, once logged in; p->outcome is by
 * the status alone.
 */
void swift_head(struct swift *s, struct swift_put *p, bool container);

/*
 * PUTs an object once more that is there; whether the store takes it, although
 * we say If-None-Match: *.
 */
bool swift_overwrites(struct swift *s, struct swift_put *p);

/* Whether the object of the newest swift_head() is ours, octet for octet. */
bool swift_is_ours(const struct swift *s, const struct swift_put *p);

/*
 * Logs in anew and replaces the account's token_file.  Returns when the token
 * ends (time(2)), or -1 where p->outcome and p->reason say why not.
 */
int64_t swift_write_token(struct swift *s, struct swift_put *p);

#endif

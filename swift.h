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

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "buf.h"
#include "config.h"
#include "message.h"

enum swift_outcome {
	SWIFT_STORED,        /* Swift confirmed it; or the request succeeded */
	SWIFT_TEMPORARY,     /* may pass */
	SWIFT_MISCONFIGURED, /* an administrator must act */
	SWIFT_FULL           /* quota or space */
};

struct swift; /* a session's connections and tokens */

/* What is to be stored. */
struct swift_object {
	struct buf name;               /* owned; Maildir name, no prefix */
	struct timespec when;          /* for further names */
	const char *metadata;          /* borrowed; header lines, each LF */
	const struct message *message; /* borrowed; finished */
};

/* What became of a request; to be prepared with swift_result_init(). */
struct swift_result {
	enum swift_outcome outcome;
	unsigned int tries;
	struct buf request; /* owned; "PUT", without URL */
	struct buf reason;  /* owned; what was answered or failed */
	struct buf trans;   /* owned; X-Trans-Id of the newest answer */
	int64_t auth_ms;    /* spent on logging in */
	int64_t put_ms;     /* spent on uploads */
	long status;        /* of the newest answer, 0 for none */
};

void swift_result_init(struct swift_result *r);
void swift_result_free(struct swift_result *r);

/*
 * Makes the store's side of a session; config is borrowed for its life.
 * Needs LAZY_CURL and LAZY_CRYPTO.  Returns NULL with errno when there is no
 * memory.
 */
struct swift *swift_open(const struct config *config);

/* Closes connections, wipes tokens and frees; takes NULL. */
void swift_close(struct swift *s);

/*
 * Stores an object in an account's container: logs in where needed, tries
 * again what may pass, never begins a PUT after deadline_ms (a clock_ms()
 * time).  The name may change when another object has it.  Faults that are
 * tried again are logged here, the last one is in *result.  Returns
 * result->outcome; SWIFT_STORED only for 201 with the message's own ETag, or
 * for an object of that ETag and length found where a try was in doubt.
 */
enum swift_outcome swift_store(struct swift *s, const struct account *a,
    struct swift_object *object, int64_t deadline_ms,
    struct swift_result *result);

/*
 * Deletes an object that swift_store() stored.  Returns 0 also when it is not
 * there, else -1.
 */
int swift_delete(struct swift *s, const struct account *a,
    const struct swift_object *object, int64_t deadline_ms,
    struct swift_result *result);

/*
 * Tries an account: logs in, looks at the container, and with probe not NULL
 * also puts, looks at and deletes that object.  What is merely not permitted
 * goes to *warnings.  Returns result->outcome.
 */
enum swift_outcome swift_check(struct swift *s, const struct account *a,
    struct swift_object *probe, int64_t deadline_ms,
    struct swift_result *result, struct buf *warnings);

#endif

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One HTTP request and its answer, through libcurl.  Knows nothing of Swift
 * or Keystone, and keeps to the rules of swiftdrop.ini(5): no redirects, no
 * netrc, no proxy but the configured one, TLS 1.2 or later.
 *
 * curl.se/libcurl/c/
 */
#ifndef HTTP_H
#define HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "buf.h"
#include "config.h"
#include "message.h"

enum http_header {
	HTTP_ETAG,
	HTTP_CONTENT_LENGTH,
	HTTP_TRANS_ID,
	HTTP_REQUEST_ID,
	HTTP_AUTH_TOKEN,
	HTTP_STORAGE_TOKEN,
	HTTP_SUBJECT_TOKEN,
	HTTP_STORAGE_URL,
	HTTP_FINGERPRINT,
	HTTP_HEADER_COUNT
};

enum http_fault {
	HTTP_ANSWERED,     /* there is a status */
	HTTP_NO_ANSWER,    /* connection, timeout, protocol: may pass */
	HTTP_MISCONFIGURED /* certificates and the like */
};

struct http {
	void *curl; /* owned; CURL */
};

struct http_request {
	const struct account *account; /* borrowed; TLS, proxy, timeout */
	const char *method;            /* borrowed */
	struct buf url;
	struct buf headers; /* lines "Name: value", each ended by LF */
	const char *text;   /* borrowed; the body, or NULL */
	const struct message *message;        /* borrowed; the body, or NULL */
	int64_t offset;                       /* of the body, internal */
	long status;                          /* of the answer */
	struct buf answer[HTTP_HEADER_COUNT]; /* headers of the answer */
	struct buf body;                      /* of the answer */
	struct buf reason;                    /* why there is none */
	int64_t retry_after_ms;               /* asked for, or 0 */
};

/* Returns 0, or -1 with errno ENOMEM.  Needs LAZY_CURL. */
int http_open(struct http *h);
void http_close(struct http *h);

/* Prepares a request in the caller's storage; http_request_free() follows. */
void http_request_init(struct http_request *r, const struct account *account,
    const char *method);
void http_request_free(struct http_request *r);

/* Makes the request and waits for its answer, until deadline_ms at most. */
enum http_fault http_perform(struct http *h, struct http_request *r,
    int64_t deadline_ms);

/*
 * Appends text percent-encoded for a path; '/' is kept.  Returns 0 or -1 with
 * errno.
 */
int http_encode_path(struct buf *out, const char *text);

#endif

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One HTTP request and its answer, through libcurl.  Knows nothing of Swift
 * or Keystone, and keeps to the rules of swiftdrop.ini(5): no redirects, no
 * netrc, no proxy but the configured one, TLS 1.2 or later.
 */
#ifndef HTTP_H
#define HTTP_H

#include <sys/types.h>

#include <stdint.h>

#include "buf.h"

struct curl_slist;
struct http;

/* How a server is reached.  Text is borrowed, NULL where not set. */
struct http_options {
	char *cacert; /* a hashed folder, or a file */
	char *cert, *cert_key;
	char *proxy;
	bool insecure;
	int64_t timeout_s;
};

enum http_fault {
	HTTP_ANSWERED,     /* there is a status */
	HTTP_UNSENT,       /* no connection, nothing was asked: may pass */
	HTTP_NO_ANSWER,    /* asked, and not properly answered: may pass */
	HTTP_MISCONFIGURED /* certificates and the like */
};

/* Reads up to len octets of a body at offset; how many, 0 at its end, or -1. */
typedef ssize_t http_read_fn(const void *body, int64_t offset, void *data,
    size_t len);

struct http_request {
	const struct http_options *options; /* borrowed */
	const char *method;                 /* borrowed */
	struct buf url;
	struct curl_slist *headers; /* owned */
	struct buf text;            /* the body; "" where there is none */
	http_read_fn *read;         /* of a body that is longer, or NULL */
	const void *body;           /* borrowed; for read */
	int64_t size, offset;       /* of the body, in octets */
	long status;                /* of the answer */
	int64_t answered;           /* offset at its head, -1 for none */
	bool resent;                /* one before had no answer */
	struct buf answer;          /* its body */
	struct buf reason;          /* why there is none */
	int64_t retry_after_ms;     /* asked for, or 0 */
};

/*
 * A session's connections, which its requests use one after the other; NULL
 * without memory.  Closing takes NULL.
 */
struct http *http_open(void);
void http_close(struct http *h);

void http_request_init(struct http_request *r,
    const struct http_options *options, const char *method);
void http_request_free(struct http_request *r);

/* Adds a header "Name: value"; without memory the request will fail. */
void http_header(struct http_request *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * Makes the request and waits for its answer: 10 s for the connection, then
 * timeout_s after the last octet that could be sent, until deadline_ms at most.
 */
enum http_fault http_perform(struct http *h, struct http_request *r,
    int64_t deadline_ms);

/* Appends which libcurl and OpenSSL these are, and how they are linked. */
void http_libraries(struct buf *text);

/*
 * Appends which host, and by which proxy, answered what, or why not; both
 * without a user's name.
 */
void http_add_outcome(const struct http_request *r, struct buf *out);

/* A header of the newest answer, "" for none; borrowed until the next. */
const char *http_answer(const struct http *h, const char *name);

#endif

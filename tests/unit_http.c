/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Requests: what cannot be said whole is not said at all.  The system tests
 * let real servers answer.
 */
#include <curl/curl.h>

#include <errno.h>
#include <stdlib.h>

#include "unit.h"

#include "clock.h"
#include "http.h"

#include "banned.h"

static bool no_memory; /* for libcurl */
static char folder[] = "/etc/ssl/certs";

static void *
try_malloc(size_t size)
{
	return no_memory ? NULL : malloc(size);
}

static void *
try_realloc(void *old, size_t size)
{
	return no_memory ? NULL : realloc(old, size);
}

static void *
try_calloc(size_t n, size_t size)
{
	return no_memory ? NULL : calloc(n, size);
}

static char *
try_strdup(const char *text)
{
	return no_memory ? NULL : strdup(text);
}

static int
setup(void **state)
{
	(void)state;
	return curl_global_init_mem(CURL_GLOBAL_DEFAULT, try_malloc, free,
		   try_realloc, try_strdup, try_calloc) == CURLE_OK
		   ? 0
		   : -1;
}

static int
teardown(void **state)
{
	(void)state;
	curl_global_cleanup();
	return 0;
}

/* Port 1 answers nobody: a request that gets there is a failure as well. */
static void
assert_not_made(struct http_request *r, const char *reason)
{
	struct http *h;

	h = http_open();
	assert_non_null(h);
	assert_int_equal(http_perform(h, r, clock_ms() + 5000), HTTP_UNSENT);
	assert_string_equal(buf_text(&r->reason), reason);
	assert_int_equal(r->status, 0);
	assert_string_equal(http_answer(h, "ETag"), "");
	http_close(h);
}

/* A PUT without If-None-Match would overwrite, one without ETag not notice. */
static void
a_header_without_memory_fails_the_request(void **state)
{
	struct http_options options = { .cacert = folder, .timeout_s = 5 };
	struct http_request r;

	(void)state;
	http_request_init(&r, &options, "PUT");
	buf_adds(&r.url, "http://127.0.0.1:1/");
	http_header(&r, "ETag: %s", "x");
	no_memory = true;
	http_header(&r, "If-None-Match: *");
	no_memory = false;
	http_header(&r, "X: y");
	assert_not_made(&r, "Out of memory");
	http_request_free(&r);
}

static void
a_header_or_url_that_is_too_long_fails_the_request(void **state)
{
	struct http_options options = { .cacert = folder, .timeout_s = 5 };
	struct http_request r;
	BUF(much, 40000);

	(void)state;
	while (much.len < 30000)
		buf_addc(&much, 'x');
	http_request_init(&r, &options, "GET");
	buf_adds(&r.url, "http://127.0.0.1:1/");
	http_header(&r, "X-Auth-Token: %s", buf_text(&much));
	http_header(&r, "X: y");
	assert_not_made(&r, "Out of memory");
	http_request_free(&r);
	http_request_init(&r, &options, "GET");
	buf_adds(&r.url, "http://127.0.0.1:1/");
	buf_adds(&r.url, buf_text(&much));
	assert_not_made(&r, "Out of memory");
	http_request_free(&r);
}

/* What is left of the deadline is the request's time, none is no request. */
static void
after_the_deadline_nothing_is_sent(void **state)
{
	struct http_options options = { .cacert = folder, .timeout_s = 5 };
	struct http_request r;
	struct http *h;

	(void)state;
	h = http_open();
	assert_non_null(h);
	http_request_init(&r, &options, "GET");
	buf_adds(&r.url, "http://127.0.0.1:1/");
	assert_int_equal(http_perform(h, &r, clock_ms() - 1), HTTP_UNSENT);
	assert_string_equal(buf_text(&r.reason), "Timeout was reached");
	http_request_free(&r);
	http_close(h);
	http_close(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_header_without_memory_fails_the_request),
		cmocka_unit_test(
		    a_header_or_url_that_is_too_long_fails_the_request),
		cmocka_unit_test(after_the_deadline_nothing_is_sent),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

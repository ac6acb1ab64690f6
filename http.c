/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One HTTP request and its answer.  The only file that knows libcurl.
 */
#include <curl/curl.h>
#include <sys/stat.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "address.h"
#include "clock.h"
#include "http.h"
#include "log.h"

#include "banned.h"

enum {
	CONNECT_MAX_MS = 10000,
	BODY_MAX = 4 * 1024 * 1024, /* a large catalog has some 100 KiB */
	ANSWER_MAX = 16 * 1024,     /* a header of the answer */
	EXPECT_MIN = 1024 * 1024    /* octets of a body worth asking for */
};

static const char *const header_names[HTTP_HEADER_COUNT] = {
	[HTTP_ETAG] = "ETag",
	[HTTP_CONTENT_LENGTH] = "Content-Length",
	[HTTP_TRANS_ID] = "X-Trans-Id",
	[HTTP_REQUEST_ID] = "X-Openstack-Request-Id",
	[HTTP_AUTH_TOKEN] = "X-Auth-Token",
	[HTTP_STORAGE_TOKEN] = "X-Storage-Token",
	[HTTP_SUBJECT_TOKEN] = "X-Subject-Token",
	[HTTP_STORAGE_URL] = "X-Storage-Url",
	[HTTP_FINGERPRINT] = "X-Object-Meta-Fingerprint",
};

/* Sets options one after the other, up to the first failure. */
struct setter {
	CURL *curl;
	CURLcode code;
};

/* Any function; libcurl knows by the option what it takes and returns. */
typedef void function(void);

static CURLcode set_options(CURL *curl, struct http_request *r,
    int64_t deadline_ms, struct curl_slist *headers, char *error);
static void set_tls(struct setter *s, const struct account *a);
static void set_body(struct setter *s, struct http_request *r);
static void set_long(struct setter *s, CURLoption option, long value);
static void set_size(struct setter *s, CURLoption option, curl_off_t value);
static void set_pointer(struct setter *s, CURLoption option, const void *value);
static void set_function(struct setter *s, CURLoption option, function *value);
static struct curl_slist *make_headers(const struct http_request *r);
static int add_header(struct curl_slist **list, const char *line);
static enum http_fault judge(struct http_request *r, CURLcode code,
    const char *error);
static size_t read_body(char *data, size_t size, size_t n, void *context);
static int seek_body(void *context, curl_off_t offset, int origin);
static size_t take_header(char *data, size_t size, size_t n, void *context);
static size_t take_body(char *data, size_t size, size_t n, void *context);

int
http_open(struct http *h)
{
	h->curl = NULL;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
		h->curl = curl_easy_init();
	if (h->curl == NULL) {
		errno = ENOMEM;
		return -1;
	}
	return 0;
}

void
http_close(struct http *h)
{
	if (h->curl != NULL)
		curl_easy_cleanup(h->curl);
	h->curl = NULL;
}

void
http_request_init(struct http_request *r, const struct account *account,
    const char *method)
{
	size_t i;

	*r = (struct http_request){ .account = account, .method = method };
	buf_init(&r->url, ANSWER_MAX);
	buf_init(&r->headers, 4 * ANSWER_MAX);
	buf_init(&r->body, BODY_MAX);
	buf_init(&r->reason, 1024);
	for (i = 0; i < HTTP_HEADER_COUNT; i++)
		buf_init(&r->answer[i], ANSWER_MAX);
}

void
http_request_free(struct http_request *r)
{
	size_t i;

	buf_free(&r->url);
	buf_free(&r->headers);
	buf_free(&r->body);
	buf_free(&r->reason);
	for (i = 0; i < HTTP_HEADER_COUNT; i++)
		buf_free(&r->answer[i]);
}

enum http_fault
http_perform(struct http *h, struct http_request *r, int64_t deadline_ms)
{
	char error[CURL_ERROR_SIZE] = "";
	struct curl_slist *headers;
	enum http_fault fault;
	CURLcode code;

	r->status = 0;
	headers = make_headers(r);
	curl_easy_reset(h->curl);
	code = headers == NULL
		   ? CURLE_OUT_OF_MEMORY
		   : set_options(h->curl, r, deadline_ms, headers, error);
	if (code == CURLE_OK)
		code = curl_easy_perform(h->curl);
	fault = judge(r, code, error);
	if (r->status == 0 && fault == HTTP_ANSWERED)
		fault = HTTP_NO_ANSWER;
	if (fault == HTTP_ANSWERED) {
		curl_off_t seconds = 0;

		(void)curl_easy_getinfo(h->curl, CURLINFO_RETRY_AFTER,
		    &seconds);
		/* More than a day means the same as a day: give up. */
		r->retry_after_ms =
		    (seconds > 86400 ? 86400 : (int64_t)seconds) * 1000;
	}
	/* Its pointers are about to become invalid. */
	curl_easy_reset(h->curl);
	curl_slist_free_all(headers);
	return fault;
}

static CURLcode
set_options(CURL *curl, struct http_request *r, int64_t deadline_ms,
    struct curl_slist *headers, char *error)
{
	struct setter s = { curl, CURLE_OK };
	const struct account *a;
	long timeout_ms;

	a = r->account;
	timeout_ms = clock_left_ms(deadline_ms);
	if (timeout_ms > a->timeout_s * 1000)
		timeout_ms = (long)a->timeout_s * 1000;
	/* Zero would mean no limit. */
	if (timeout_ms <= 0)
		return CURLE_OPERATION_TIMEDOUT;
	set_pointer(&s, CURLOPT_ERRORBUFFER, error);
	set_pointer(&s, CURLOPT_URL, buf_text(&r->url));
	set_long(&s, CURLOPT_PATH_AS_IS, 1);
	set_pointer(&s, CURLOPT_PROTOCOLS_STR, "http,https");
	set_long(&s, CURLOPT_FOLLOWLOCATION, 0);
	set_long(&s, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
	set_long(&s, CURLOPT_NETRC, CURL_NETRC_IGNORED);
	set_pointer(&s, CURLOPT_PROXY, a->proxy == NULL ? "" : a->proxy);
	set_pointer(&s, CURLOPT_NOPROXY, "");
	set_long(&s, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1);
	set_pointer(&s, CURLOPT_USERAGENT, "swiftdrop/" VERSION);
	set_pointer(&s, CURLOPT_HTTPHEADER, headers);
	set_function(&s, CURLOPT_HEADERFUNCTION, (function *)take_header);
	set_pointer(&s, CURLOPT_HEADERDATA, r);
	set_function(&s, CURLOPT_WRITEFUNCTION, (function *)take_body);
	set_pointer(&s, CURLOPT_WRITEDATA, r);
	set_long(&s, CURLOPT_TIMEOUT_MS, timeout_ms);
	set_long(&s, CURLOPT_CONNECTTIMEOUT_MS,
	    timeout_ms < CONNECT_MAX_MS ? timeout_ms : CONNECT_MAX_MS);
	/* Signals are swiftdrop.c's; a resolver that hangs is left behind. */
	set_long(&s, CURLOPT_NOSIGNAL, 1);
	set_long(&s, CURLOPT_QUICK_EXIT, 1);
	set_tls(&s, a);
	set_body(&s, r);
	return s.code;
}

static void
set_tls(struct setter *s, const struct account *a)
{
	struct stat st;
	const char *bundle, *folder;

	/*
	 * A hashed folder is looked up, a bundle is read whole: 30 to 40 ms
	 * of each process.  libcurl has a default for either, so the one
	 * that is not meant must be taken away.
	 */
	folder =
	    stat(a->cacert, &st) == 0 && S_ISDIR(st.st_mode) ? a->cacert : NULL;
	bundle = folder == NULL ? a->cacert : NULL;
	set_pointer(s, CURLOPT_CAPATH, folder);
	set_pointer(s, CURLOPT_CAINFO, bundle);
	set_pointer(s, CURLOPT_PROXY_CAPATH, folder);
	set_pointer(s, CURLOPT_PROXY_CAINFO, bundle);
	set_long(s, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
	set_long(s, CURLOPT_SSL_VERIFYPEER, a->insecure ? 0 : 1);
	set_long(s, CURLOPT_SSL_VERIFYHOST, a->insecure ? 0 : 2);
	if (a->cert != NULL)
		set_pointer(s, CURLOPT_SSLCERT, a->cert);
	if (a->cert_key != NULL)
		set_pointer(s, CURLOPT_SSLKEY, a->cert_key);
}

static void
set_body(struct setter *s, struct http_request *r)
{
	r->offset = 0;
	if (r->message != NULL) {
		set_long(s, CURLOPT_UPLOAD, 1);
		set_function(s, CURLOPT_READFUNCTION, (function *)read_body);
		set_pointer(s, CURLOPT_READDATA, r);
		/* libcurl sends again what a dead connection swallowed. */
		set_function(s, CURLOPT_SEEKFUNCTION, (function *)seek_body);
		set_pointer(s, CURLOPT_SEEKDATA, r);
		set_size(s, CURLOPT_INFILESIZE_LARGE, r->message->size);
	} else if (r->text != NULL) {
		set_long(s, CURLOPT_POST, 1);
		set_pointer(s, CURLOPT_POSTFIELDS, r->text);
		set_size(s, CURLOPT_POSTFIELDSIZE_LARGE,
		    (curl_off_t)strlen(r->text));
	} else if (strcmp(r->method, "HEAD") == 0) {
		set_long(s, CURLOPT_NOBODY, 1);
	}
	set_pointer(s, CURLOPT_CUSTOMREQUEST, r->method);
}

/* The first failure stays; curl_easy_setopt() takes one of four types. */
static void
set_long(struct setter *s, CURLoption option, long value)
{
	if (s->code == CURLE_OK)
		s->code = curl_easy_setopt(s->curl, option, value);
}

static void
set_size(struct setter *s, CURLoption option, curl_off_t value)
{
	if (s->code == CURLE_OK)
		s->code = curl_easy_setopt(s->curl, option, value);
}

static void
set_pointer(struct setter *s, CURLoption option, const void *value)
{
	if (s->code == CURLE_OK)
		s->code = curl_easy_setopt(s->curl, option, value);
}

static void
set_function(struct setter *s, CURLoption option, function *value)
{
	if (s->code == CURLE_OK)
		s->code = curl_easy_setopt(s->curl, option, value);
}

static struct curl_slist *
make_headers(const struct http_request *r)
{
	struct curl_slist *list;
	const char *expect, *line, *next;
	struct buf one;
	int result;

	list = NULL;
	expect = r->message != NULL && r->message->size > EXPECT_MIN
		     ? "Expect: 100-continue"
		     : "Expect:";
	result = add_header(&list, expect);
	buf_init(&one, ANSWER_MAX);
	for (line = buf_text(&r->headers); *line != '\0' && result == 0;
	     line = next + 1) {
		next = strchr(line, '\n');
		buf_reset(&one);
		result = buf_add(&one, line, (size_t)(next - line));
		/* libcurl writes an empty header as "Name;". */
		if (result == 0 && one.len > 2 &&
		    strcmp(one.data + one.len - 2, ": ") == 0) {
			buf_cut(&one, one.len - 2);
			result = buf_add_octet(&one, ';');
		}
		if (result == 0)
			result = add_header(&list, buf_text(&one));
	}
	buf_free(&one);
	if (result == -1) {
		curl_slist_free_all(list);
		list = NULL;
	}
	return list;
}

static int
add_header(struct curl_slist **list, const char *line)
{
	struct curl_slist *longer;

	longer = curl_slist_append(*list, line);
	if (longer == NULL)
		return -1;
	*list = longer;
	return 0;
}

/* Says what a failure means; curl.se/libcurl/c/libcurl-errors.html */
static enum http_fault
judge(struct http_request *r, CURLcode code, const char *error)
{
	if (code == CURLE_OK)
		return HTTP_ANSWERED;
	/* Many servers refuse a body by closing while it is sent. */
	if (r->status >= 400 &&
	    (code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR))
		return HTTP_ANSWERED;
	r->status = 0;
	buf_reset(&r->reason);
	error = *error == '\0' ? curl_easy_strerror(code) : error;
	log_printable(&r->reason, error, strlen(error), 200);
	if (code == CURLE_PEER_FAILED_VERIFICATION ||
	    code == CURLE_SSL_CACERT_BADFILE || code == CURLE_SSL_CERTPROBLEM ||
	    code == CURLE_SSL_ISSUER_ERROR || code == CURLE_SSL_CIPHER ||
	    code == CURLE_URL_MALFORMAT || code == CURLE_SSL_ENGINE_NOTFOUND)
		return HTTP_MISCONFIGURED;
	return HTTP_NO_ANSWER;
}

static size_t
read_body(char *data, size_t size, size_t n, void *context)
{
	struct http_request *r = context;
	ssize_t got;

	got = message_read(r->message, r->offset, data, size * n);
	if (got == -1)
		return CURL_READFUNC_ABORT;
	r->offset += got;
	return (size_t)got;
}

static int
seek_body(void *context, curl_off_t offset, int origin)
{
	struct http_request *r = context;

	if (origin != SEEK_SET || offset < 0 || offset > r->message->size)
		return CURL_SEEKFUNC_FAIL;
	r->offset = offset;
	return CURL_SEEKFUNC_OK;
}

/* Only the last answer counts, not a 100 Continue before it. */
static size_t
take_header(char *data, size_t size, size_t n, void *context)
{
	struct http_request *r = context;
	const char *value;
	size_t i, len, name_len;

	len = size * n;
	if (len > 5 && strncasecmp(data, "HTTP/", 5) == 0) {
		for (i = 0; i < HTTP_HEADER_COUNT; i++)
			buf_reset(&r->answer[i]);
		value = memchr(data, ' ', len);
		r->status = value == NULL ? 0 : strtol(value, NULL, 10);
		return len;
	}
	for (i = 0; i < HTTP_HEADER_COUNT; i++) {
		name_len = strlen(header_names[i]);
		if (len <= name_len || data[name_len] != ':' ||
		    strncasecmp(data, header_names[i], name_len) != 0)
			continue;
		value = data + name_len + 1;
		n = len - name_len - 1;
		while (n > 0 && (*value == ' ' || *value == '\t')) {
			value++;
			n--;
		}
		while (n > 0 && (unsigned char)value[n - 1] <= ' ')
			n--;
		buf_reset(&r->answer[i]);
		if (memchr(value, '\0', n) == NULL)
			(void)buf_add(&r->answer[i], value, n);
	}
	return len;
}

/* What is too long for us is not read, but nor is it a failure. */
static size_t
take_body(char *data, size_t size, size_t n, void *context)
{
	struct http_request *r = context;

	(void)buf_add(&r->body, data, size * n);
	return size * n;
}

int
http_encode_path(struct buf *out, const char *text)
{
	static const char plain[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	    "-._~/";

	for (; *text != '\0'; text++)
		if ((strchr(plain, *text) != NULL
			    ? buf_add_octet(out, *text)
			    : buf_addf(out, "%%%02X",
				  (unsigned int)(unsigned char)*text)) == -1)
			return -1;
	return 0;
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One HTTP request and its answer.  The only file that knows libcurl;
 * curl.se/libcurl/c/
 */
/* For the loaders of error texts, which have no successors. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include <curl/curl.h>
#include <openssl/conf.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "http.h"
#include "log.h"
#include "text.h"

#include "banned.h"

enum {
	CONNECT_MAX_MS = 10000,
	UNSENT_MAX = 128 * 1024,    /* octets, see set_socket() */
	BODY_MAX = 4 * 1024 * 1024, /* a large catalog has some 100 KiB */
	HEADER_MAX = 20 * 1024,     /* a token of Keystone's has a few KiB */
	EXPECT_MIN = 1024 * 1024    /* octets of a body worth asking for */
};

/*
 * Each request has a handle of its own: libcurl before 8.1 follows a freed
 * pointer when an answer to a used one begins with a folded line (its issue
 * 11101).  What is worth keeping between requests is shared.
 */
struct http {
	CURLSH *share;      /* connections, TLS sessions, names */
	bool tls;           /* libcrypto is ready for it */
	CURL *curl;         /* of the newest request, for its answer; or NULL */
	CURLcode code;      /* its first failure */
	int64_t timeout_ms; /* of it */
	int64_t sent;       /* octets, and when that changed */
	int64_t moved_ms;
	char error[CURL_ERROR_SIZE];
};

struct http *
http_open(void)
{
	struct http *h = calloc(1, sizeof(*h));

	/* Before libcurl makes all of libcrypto ready; see start_tls(). */
	(void)OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CRYPTO_STRINGS |
				   OPENSSL_INIT_NO_ADD_ALL_CIPHERS |
				   OPENSSL_INIT_NO_ADD_ALL_DIGESTS |
				   OPENSSL_INIT_NO_LOAD_CONFIG |
				   OPENSSL_INIT_NO_ATEXIT,
	    NULL);
	if (h != NULL && curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
		h->share = curl_share_init();
	if (h == NULL || h->share == NULL) {
		http_close(h);
		return NULL;
	}
	/* What cannot be shared is made anew for each request. */
	(void)curl_share_setopt(h->share, CURLSHOPT_SHARE,
	    CURL_LOCK_DATA_CONNECT);
	(void)curl_share_setopt(h->share, CURLSHOPT_SHARE,
	    CURL_LOCK_DATA_SSL_SESSION);
	(void)curl_share_setopt(h->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
	return h;
}

void
http_close(struct http *h)
{
	if (h == NULL)
		return;
	curl_easy_cleanup(h->curl);
	(void)curl_share_cleanup(h->share);
	free(h);
}

void
http_request_init(struct http_request *r, const struct http_options *options,
    const char *method)
{
	*r = (struct http_request){
		.options = options,
		.method = method,
		.url = { .max = HEADER_MAX },
		.text = { .max = BODY_MAX },
		.answer = { .max = BODY_MAX },
		.reason = { .max = 1024 },
	};
}

void
http_request_free(struct http_request *r)
{
	buf_free(&r->url);
	buf_free(&r->text);
	buf_free(&r->answer);
	buf_free(&r->reason);
	curl_slist_free_all(r->headers);
}

void
http_header(struct http_request *r, const char *format, ...)
{
	struct curl_slist *list;
	va_list args;
	BUF(line, HEADER_MAX);

	va_start(args, format);
	buf_vaddf(&line, format, args);
	va_end(args);
	/* libcurl leaves a header without a value out; "Name;" sends it. */
	if (line.len > 2 && strcmp(line.data + line.len - 2, ": ") == 0) {
		buf_cut(&line, line.len - 2);
		buf_addc(&line, ';');
	}
	list = curl_slist_append(r->headers, buf_text(&line));
	buf_fail(&r->url, list == NULL ? ENOMEM : line.error);
	if (list != NULL)
		r->headers = list;
}

static size_t
read_body(char *data, size_t size, size_t n, void *context)
{
	struct http_request *r = context;
	ssize_t got = r->read(r->body, r->offset, data, size * n);

	if (got == -1)
		return CURL_READFUNC_ABORT;
	r->offset += got;
	return (size_t)got;
}

/* libcurl sends again what a dead connection swallowed. */
static int
seek_body(void *context, curl_off_t offset, int origin)
{
	struct http_request *r = context;

	if (origin != SEEK_SET || offset < 0 || offset > r->size)
		return CURL_SEEKFUNC_FAIL;
	r->offset = offset;
	r->resent = true;
	return CURL_SEEKFUNC_OK;
}

/*
 * Called for each line of an answer's head; the last one is empty.  That of an
 * interim answer (100) counts until the next one begins.
 */
static size_t
take_header(char *data, size_t size, size_t n, void *context)
{
	struct http_request *r = context;

	if (n > 0 && (*data == '\r' || *data == '\n'))
		r->answered = r->offset;
	if (n > 5 && memcmp(data, "HTTP/", 5) == 0)
		r->answered = -1;
	return size * n;
}

/* What is too long for us is not read, but nor is it a failure. */
static size_t
take_answer(char *data, size_t size, size_t n, void *context)
{
	struct http_request *r = context;

	buf_add(&r->answer, data, size * n);
	return size * n;
}

/*
 * What http_open() left out of libcrypto's start, and TLS needs: the
 * administrator's openssl.cnf (providers, FIPS, minimum versions), the digests
 * that certificates are signed with, and words for what fails.
 */
static void
start_tls(struct http *h)
{
	if (h->tls)
		return;
	h->tls = true;
	OPENSSL_load_builtin_modules();
	(void)CONF_modules_load_file(NULL, NULL,
	    CONF_MFLAGS_DEFAULT_SECTION | CONF_MFLAGS_IGNORE_MISSING_FILE |
		CONF_MFLAGS_IGNORE_RETURN_CODES);
	(void)EVP_add_digest(EVP_sha1());
	(void)EVP_add_digest(EVP_sha224());
	(void)EVP_add_digest(EVP_sha256());
	(void)EVP_add_digest(EVP_sha384());
	(void)EVP_add_digest(EVP_sha512());
	ERR_load_SSL_strings();
	ERR_load_X509_strings();
	ERR_load_PEM_strings();
	ERR_load_ASN1_strings();
	ERR_load_EVP_strings();
}

/* TLS 1.2 at least, more where openssl.cnf says so: libcurl would undo that. */
static CURLcode
set_minimum(CURL *curl, void *tls, void *context)
{
	(void)curl;
	(void)context;
	if (SSL_CTX_get_min_proto_version(tls) >= TLS1_2_VERSION ||
	    SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION) == 1)
		return CURLE_OK;
	return CURLE_SSL_CIPHER;
}

/*
 * Ends a request when nothing was sent for too long.  Asked once a second at
 * least, CURLOPT_LOW_SPEED_TIME is late by several.
 */
static int
watch(void *context, curl_off_t total, curl_off_t received, curl_off_t size,
    curl_off_t sent)
{
	struct http *h = context;
	long head = 0;

	(void)total;
	(void)received;
	(void)size;
	(void)curl_easy_getinfo(h->curl, CURLINFO_REQUEST_SIZE, &head);
	if (sent + head != h->sent) {
		h->sent = sent + head;
		h->moved_ms = clock_ms();
	}
	return clock_ms() - h->moved_ms > h->timeout_ms ? 1 : 0;
}

/*
 * Lets the kernel take little more than it can send at once: what lies in its
 * buffer, 4 MiB or more, looks sent to watch().  0 means CURL_SOCKOPT_OK.
 */
static int
set_socket(void *unused, curl_socket_t fd, curlsocktype purpose)
{
	int octets = UNSENT_MAX;

	(void)unused;
	(void)purpose;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &octets,
	    sizeof(octets));
	return CURL_SOCKOPT_OK;
}

/* Keeps the first failure. */
static void
keep(struct http *h, CURLcode code)
{
	if (h->code == CURLE_OK)
		h->code = code;
}

#define SET(option, value)                                                     \
	keep(h, curl_easy_setopt(h->curl, CURLOPT_##option, value))

static void
set_tls(struct http *h, const struct http_request *r)
{
	const struct http_options *o = r->options;
	const char *folder;
	struct stat st;

	/*
	 * A hashed folder is looked up, a bundle is read whole: 30 to 40 ms
	 * of each process.  libcurl has a default for either, so the one
	 * that is not meant must be taken away.
	 */
	if (!text_begins(buf_text(&r->url), "https:") &&
	    (o->proxy == NULL || !text_begins(o->proxy, "https:")))
		return;
	start_tls(h);
	folder =
	    stat(o->cacert, &st) == 0 && S_ISDIR(st.st_mode) ? o->cacert : NULL;
	SET(CAPATH, folder);
	SET(CAINFO, folder == NULL ? o->cacert : NULL);
	SET(PROXY_CAPATH, folder);
	SET(PROXY_CAINFO, folder == NULL ? o->cacert : NULL);
	SET(SSL_CTX_FUNCTION, set_minimum);
	SET(SSL_VERIFYPEER, o->insecure ? 0L : 1L);
	SET(SSL_VERIFYHOST, o->insecure ? 0L : 2L);
	SET(SSLCERT, o->cert);
	SET(SSLKEY, o->cert_key);
	/* Without one OpenSSL asks for it, on the client's descriptor. */
	SET(KEYPASSWD, "");
}

static void
set_body(struct http *h, struct http_request *r)
{
	r->offset = 0;
	if (r->read != NULL) {
		SET(UPLOAD, 1L);
		SET(READFUNCTION, read_body);
		SET(READDATA, r);
		SET(SEEKFUNCTION, seek_body);
		SET(SEEKDATA, r);
		SET(INFILESIZE_LARGE, (curl_off_t)r->size);
	} else if (r->text.len > 0) {
		SET(POST, 1L);
		SET(POSTFIELDS, r->text.data);
		SET(POSTFIELDSIZE_LARGE, (curl_off_t)r->text.len);
	} else if (strcmp(r->method, "HEAD") == 0) {
		SET(NOBODY, 1L);
	}
	SET(CUSTOMREQUEST, r->method);
}

static void
set_limits(struct http *h, const struct http_options *o, int64_t deadline_ms)
{
	int left_ms = clock_left_ms(deadline_ms);

	/* Zero would mean no limit. */
	if (left_ms == 0)
		h->code = CURLE_OPERATION_TIMEDOUT;
	SET(TIMEOUT_MS, (long)left_ms);
	SET(CONNECTTIMEOUT_MS, (long)CONNECT_MAX_MS);
	h->timeout_ms = o->timeout_s * 1000;
	h->moved_ms = clock_ms();
	h->sent = 0;
	SET(NOPROGRESS, 0L);
	SET(XFERINFOFUNCTION, watch);
	SET(XFERINFODATA, h);
	SET(SOCKOPTFUNCTION, set_socket);
	/* Signals are swiftdrop.c's; a resolver that hangs is left behind. */
	SET(NOSIGNAL, 1L);
	SET(QUICK_EXIT, 1L);
}

/* Redirects are not followed and netrc is not read unless that is asked for. */
static void
set_options(struct http *h, struct http_request *r)
{
	SET(SHARE, h->share);
	SET(ERRORBUFFER, h->error);
	SET(URL, buf_text(&r->url));
	SET(PATH_AS_IS, 1L);
	SET(PROTOCOLS_STR, "http,https");
	SET(HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(PROXY, r->options->proxy == NULL ? "" : r->options->proxy);
	SET(NOPROXY, "");
	SET(SUPPRESS_CONNECT_HEADERS, 1L);
	SET(USERAGENT, "swiftdrop/" VERSION);
	SET(HTTPHEADER, r->headers);
	SET(HEADERFUNCTION, take_header);
	SET(HEADERDATA, r);
	SET(WRITEFUNCTION, take_answer);
	SET(WRITEDATA, r);
}

/* Says what a failure means; curl.se/libcurl/c/libcurl-errors.html */
static enum http_fault
judge(struct http *h, struct http_request *r)
{
	static const CURLcode ours[] = { CURLE_PEER_FAILED_VERIFICATION,
		CURLE_SSL_CACERT_BADFILE, CURLE_SSL_CERTPROBLEM,
		CURLE_SSL_ISSUER_ERROR, CURLE_SSL_CIPHER,
		CURLE_SSL_ENGINE_NOTFOUND, CURLE_URL_MALFORMAT };
	const char *error;
	curl_off_t began = 0;
	size_t i;

	/*
	 * An answer is its head: many servers refuse a body by closing while
	 * it is sent.  But they cannot have stored what they did not read.
	 */
	if (r->answered >= 0 &&
	    r->status >= (r->answered < r->size ? 300 : 200))
		return HTTP_ANSWERED;
	error = h->code == CURLE_OK ? "half an answer, or before the body"
		: h->code == CURLE_ABORTED_BY_CALLBACK
		    ? "nothing was sent or answered for too long"
		: *h->error == '\0' || strchr(h->error, '@') != NULL
		    /* Some texts hold a URL whole, with what is before '@'. */
		    ? curl_easy_strerror(h->code)
		    : h->error;
	r->status = 0;
	log_escape(&r->reason, error, strlen(error), 200);
	if (h->code == CURLE_SSL_CERTPROBLEM)
		buf_adds(&r->reason,
		    "; cert and cert_key must be PEM without a pass phrase");
	for (i = 0; i < COUNT(ours); i++)
		if (h->code == ours[i])
			return HTTP_MISCONFIGURED;
	(void)curl_easy_getinfo(h->curl, CURLINFO_PRETRANSFER_TIME_T, &began);
	return began == 0 ? HTTP_UNSENT : HTTP_NO_ANSWER;
}

/* Makes the request once. */
static enum http_fault
attempt(struct http *h, struct http_request *r, int64_t deadline_ms)
{
	struct pollfd kept = { .fd = -1, .events = POLLIN };
	curl_off_t seconds = 0;

	if (h->curl != NULL)
		(void)curl_easy_getinfo(h->curl, CURLINFO_ACTIVESOCKET,
		    &kept.fd);
	curl_easy_cleanup(h->curl);
	h->curl = curl_easy_init();
	h->code = h->curl == NULL || r->url.error != 0 || r->text.error != 0
		      ? CURLE_OUT_OF_MEMORY
		      : CURLE_OK;
	*h->error = '\0';
	r->answered = -1;
	buf_reset(&r->answer);
	/*
	 * One connection is kept.  What can be read there already, unasked,
	 * would pass for the answer to the next request.
	 */
	SET(MAXCONNECTS, 1L);
	SET(FRESH_CONNECT, kept.fd == -1 || poll(&kept, 1, 0) != 0 ? 1L : 0L);
	set_options(h, r);
	set_limits(h, r->options, deadline_ms);
	set_tls(h, r);
	set_body(h, r);
	if (h->code == CURLE_OK)
		h->code = curl_easy_perform(h->curl);
	(void)curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &r->status);
	(void)curl_easy_getinfo(h->curl, CURLINFO_RETRY_AFTER, &seconds);
	/* More than a day means the same as a day: give up. */
	r->retry_after_ms = (seconds > 86400 ? 86400 : seconds) * 1000;
	return judge(h, r);
}

enum http_fault
http_perform(struct http *h, struct http_request *r, int64_t deadline_ms)
{
	enum http_fault fault;

	/* Above that libcurl asks whether the body is wanted. */
	if (r->size <= EXPECT_MIN)
		http_header(r, "Expect:");
	fault = attempt(h, r, deadline_ms);
	/* "417 Expectation Failed", RFC 9110 section 15.5.18 */
	if (r->status == 417 && r->size > EXPECT_MIN) {
		http_header(r, "Expect:");
		fault = attempt(h, r, deadline_ms);
	}
	return fault;
}

void
http_add_outcome(const struct http_request *r, struct buf *out)
{
	const char *proxy = r->options->proxy;
	const char *at, *host = strstr(buf_text(&r->url), "://");

	host = host == NULL ? "" : host + 3;
	at = memrchr(host, '@', strcspn(host, "/?"));
	host = at == NULL ? host : at + 1;
	buf_add(out, host, strcspn(host, "/?"));
	at = proxy == NULL ? NULL : strchr(proxy, '@');
	if (proxy != NULL)
		buf_addf(out, " by proxy %s", at == NULL ? proxy : at + 1);
	if (r->status == 0)
		buf_addf(out, ": %s", buf_text(&r->reason));
	else
		buf_addf(out, " answered %ld", r->status);
}

void
http_libraries(struct buf *text)
{
	const curl_version_info_data *info = curl_version_info(CURLVERSION_NOW);

	buf_addf(text, "libcurl/%s %s, linked ", info->version,
	    info->ssl_version);
#ifdef STATIC_LIBRARIES
	buf_adds(text, "from archives");
#else
	buf_adds(text, "shared");
#endif
}

const char *
http_answer(const struct http *h, const char *name)
{
	struct curl_header *header;

	/* libcurl 7.88 takes the CR behind an empty value for the value. */
	return curl_easy_header(h->curl, name, 0, CURLH_HEADER, -1, &header) ==
			   CURLHE_OK &&
		       *header->value != '\r'
		   ? header->value
		   : "";
}

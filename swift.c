/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The store: what Swift's and Keystone's answers mean and what is tried
 * again.  http.c makes the requests, deliver.c decides what a failure means
 * for the message.
 */
#include <sys/random.h>

#include <errno.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "clock.h"
#include "http.h"
#include "log.h"
#include "object.h"
#include "swift.h"

#include "banned.h"

enum {
	BACKOFF_FIRST_MS = 500,
	BACKOFF_MAX_MS = 10000,
	TOKEN_MAX = 16 * 1024,
	URL_MAX = 8 * 1024,
	TEMPURL_LIFE_S = 600, /* covers any deadline and skewed clocks */
	PROBE_LIFE_S = 3600
};

/* What a session knows of an account once it has logged in. */
struct login {
	struct buf token;       /* owned; "" while there is none */
	struct buf storage_url; /* owned */
};

struct swift {
	const struct config *config; /* borrowed */
	struct http http;
	struct login *logins; /* owned; one for each account */
};

/* What one try showed. */
enum verdict {
	VERDICT_DONE,   /* result->outcome is final */
	VERDICT_RETRY,  /* may pass; result->outcome is for the last time */
	VERDICT_RENAME, /* the name is taken */
	VERDICT_LOGIN,  /* the token was refused */
	VERDICT_PLAIN   /* the metadata was refused */
};

/* What swift_store() has already tried. */
struct attempt {
	bool plain;     /* without metadata */
	bool logged_in; /* anew, after a token was refused */
	bool again;     /* the next PUT belongs to the try before */
	int64_t retry_after_ms;
	int64_t deadline_ms;
};

static enum verdict try_store(struct swift *s, const struct account *a,
    struct swift_object *object, struct attempt *attempt,
    struct swift_result *result);
static enum verdict judge_put(struct swift *s, const struct account *a,
    const struct swift_object *object, const struct http_request *r,
    struct attempt *attempt, struct swift_result *result);
static enum verdict judge_stored(struct swift *s, const struct account *a,
    const struct swift_object *object, const struct http_request *r,
    struct attempt *attempt, struct swift_result *result);
static enum verdict resolve_412(struct swift *s, const struct account *a,
    const struct swift_object *object, struct attempt *attempt,
    struct swift_result *result);
static bool is_ours(const struct http_request *r,
    const struct swift_object *object);
static bool is_etag(const struct buf *etag, const char *md5_hex);
static enum verdict judge_status(const struct http_request *r,
    enum http_fault fault, struct swift_result *result);
static enum verdict settle(struct swift_result *result,
    enum swift_outcome outcome);
static int rename_object(struct swift_object *object);
static bool back_off(const struct attempt *attempt, unsigned int tries);
static void log_try(const struct account *a, const struct swift_result *result);
static enum http_fault perform(struct swift *s, struct http_request *r,
    int64_t deadline_ms, struct swift_result *result);
static enum verdict ensure_login(struct swift *s, const struct account *a,
    struct attempt *attempt, struct swift_result *result);
static enum verdict login_v1(struct swift *s, const struct account *a,
    struct attempt *attempt, struct swift_result *result);
static enum verdict login_v3(struct swift *s, const struct account *a,
    struct attempt *attempt, struct swift_result *result);
static enum verdict take_login(const struct account *a, struct login *login,
    const char *token, const char *storage_url, struct swift_result *result);
static enum verdict judge_login(const struct http_request *r,
    enum http_fault fault, struct attempt *attempt,
    struct swift_result *result);
static char *v3_request(const struct account *a);
static json_t *v3_identity(const struct account *a);
static json_t *v3_scope(const struct account *a);
static json_t *named(const char *name, const char *id, const char *domain_name,
    const char *domain_id);
static char *find_endpoint(const struct account *a, const struct buf *body);
static const char *endpoint_url(const struct account *a, const json_t *entry);
static bool is_text(const json_t *object, const char *key, const char *value);
static int make_request(struct swift *s, const struct account *a,
    struct http_request *r, const struct swift_object *object);
static int sign(const struct account *a, struct http_request *r,
    const char *url, const char *path);
static int add_put_headers(struct http_request *r,
    const struct swift_object *object, bool plain);
static struct login *login_of(struct swift *s, const struct account *a);
static bool check_container(struct swift *s, const struct account *a,
    struct attempt *attempt, struct swift_result *result, struct buf *warnings);
static bool check_probe(struct swift *s, const struct account *a,
    struct swift_object *probe, struct attempt *attempt,
    struct swift_result *result, struct buf *warnings);

void
swift_result_init(struct swift_result *r)
{
	*r = (struct swift_result){ .outcome = SWIFT_TEMPORARY };
	buf_init(&r->request, 64);
	buf_init(&r->reason, 1024);
	buf_init(&r->trans, 128);
}

void
swift_result_free(struct swift_result *r)
{
	buf_free(&r->request);
	buf_free(&r->reason);
	buf_free(&r->trans);
}

struct swift *
swift_open(const struct config *config)
{
	struct swift *s;
	size_t i;

	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return NULL;
	s->config = config;
	s->logins = calloc(config->naccounts + 1, sizeof(s->logins[0]));
	if (s->logins == NULL || http_open(&s->http) == -1) {
		free(s->logins);
		free(s);
		return NULL;
	}
	for (i = 0; i < config->naccounts; i++) {
		buf_init(&s->logins[i].token, TOKEN_MAX);
		buf_init(&s->logins[i].storage_url, URL_MAX);
	}
	return s;
}

void
swift_close(struct swift *s)
{
	size_t i;

	if (s == NULL)
		return;
	for (i = 0; i < s->config->naccounts; i++) {
		buf_free(&s->logins[i].token);
		buf_free(&s->logins[i].storage_url);
	}
	free(s->logins);
	http_close(&s->http);
	free(s);
}

enum swift_outcome
swift_store(struct swift *s, const struct account *a,
    struct swift_object *object, int64_t deadline_ms,
    struct swift_result *result)
{
	struct attempt attempt = { .deadline_ms = deadline_ms };
	enum verdict verdict;

	attempt.plain = !a->metadata;
	result->tries = 0;
	for (;;) {
		if (clock_left_ms(deadline_ms) == 0) {
			buf_reset(&result->reason);
			(void)buf_add_text(&result->reason,
			    "the deadline has passed");
			return result->outcome = SWIFT_TEMPORARY;
		}
		attempt.retry_after_ms = 0;
		verdict = try_store(s, a, object, &attempt, result);
		if (verdict == VERDICT_LOGIN && !attempt.logged_in) {
			attempt.logged_in = attempt.again = true;
			buf_reset(&login_of(s, a)->token);
			continue;
		}
		if (verdict == VERDICT_PLAIN && !attempt.plain) {
			attempt.plain = attempt.again = true;
			(void)buf_add_text(&result->reason,
			    ", tried once more without metadata");
			log_try(a, result);
			continue;
		}
		if (verdict == VERDICT_LOGIN || verdict == VERDICT_PLAIN)
			return result->outcome = SWIFT_MISCONFIGURED;
		if (verdict == VERDICT_DONE ||
		    result->tries > (unsigned int)a->retries)
			return result->outcome;
		log_try(a, result);
		if (verdict == VERDICT_RENAME
			? rename_object(object) == -1
			: !back_off(&attempt, result->tries))
			return result->outcome;
	}
}

/* One PUT, and what it takes to understand its answer. */
static enum verdict
try_store(struct swift *s, const struct account *a, struct swift_object *object,
    struct attempt *attempt, struct swift_result *result)
{
	struct http_request r;
	enum http_fault fault;
	enum verdict verdict;
	int64_t started_ms;

	started_ms = clock_ms();
	verdict = ensure_login(s, a, attempt, result);
	result->auth_ms += clock_ms() - started_ms;
	if (verdict != VERDICT_DONE || result->outcome != SWIFT_STORED) {
		if (verdict == VERDICT_RETRY || result->tries == 0)
			result->tries++;
		return verdict;
	}
	http_request_init(&r, a, "PUT");
	r.message = object->message;
	result->tries += attempt->again ? 0 : 1;
	attempt->again = false;
	if (make_request(s, a, &r, object) == -1 ||
	    add_put_headers(&r, object, attempt->plain) == -1) {
		buf_reset(&result->reason);
		(void)buf_add_text(&result->reason, strerror(errno));
		fault = HTTP_NO_ANSWER;
	} else {
		started_ms = clock_ms();
		fault = perform(s, &r, attempt->deadline_ms, result);
		result->put_ms += clock_ms() - started_ms;
	}
	attempt->retry_after_ms = r.retry_after_ms;
	if (fault == HTTP_ANSWERED)
		verdict = judge_put(s, a, object, &r, attempt, result);
	else
		verdict = judge_status(&r, fault, result);
	http_request_free(&r);
	return verdict;
}

/* The answers that mean something special to a PUT; CONTRACT section 4. */
static enum verdict
judge_put(struct swift *s, const struct account *a,
    const struct swift_object *object, const struct http_request *r,
    struct attempt *attempt, struct swift_result *result)
{
	switch (r->status) {
	case 201:
		return judge_stored(s, a, object, r, attempt, result);
	case 400:
		return VERDICT_PLAIN;
	case 401:
		/* A signature cannot be renewed. */
		if (a->auth_version == AUTH_TEMPURL)
			return settle(result, SWIFT_MISCONFIGURED);
		return VERDICT_LOGIN;
	case 412:
		return resolve_412(s, a, object, attempt, result);
	default:
		return judge_status(r, HTTP_ANSWERED, result);
	}
}

/*
 * Only our own ETag says that our octets are there; anything else must not
 * stay under a name that looks like a delivery.
 */
static enum verdict
judge_stored(struct swift *s, const struct account *a,
    const struct swift_object *object, const struct http_request *r,
    struct attempt *attempt, struct swift_result *result)
{
	struct swift_result deletion;

	if (is_etag(&r->answer[HTTP_ETAG], object->message->md5_hex))
		return settle(result, SWIFT_STORED);
	swift_result_init(&deletion);
	(void)swift_delete(s, a, object, attempt->deadline_ms, &deletion);
	swift_result_free(&deletion);
	(void)buf_add_text(&result->reason, ", but not our ETag");
	result->outcome = SWIFT_TEMPORARY;
	return VERDICT_RENAME;
}

/* An earlier try of ours may have arrived although its answer was lost. */
static enum verdict
resolve_412(struct swift *s, const struct account *a,
    const struct swift_object *object, struct attempt *attempt,
    struct swift_result *result)
{
	struct http_request r;
	enum http_fault fault;
	enum verdict verdict;

	http_request_init(&r, a, "HEAD");
	fault = HTTP_NO_ANSWER;
	if (make_request(s, a, &r, object) == 0)
		fault = perform(s, &r, attempt->deadline_ms, result);
	result->outcome = SWIFT_TEMPORARY;
	if (fault != HTTP_ANSWERED || r.status >= 500 || r.status == 408 ||
	    r.status == 429)
		verdict = VERDICT_RETRY;
	else if (r.status == 200 && is_ours(&r, object))
		verdict = settle(result, SWIFT_STORED);
	else {
		buf_reset(&result->reason);
		(void)buf_addf(&result->reason,
		    "PUT answered 412, HEAD %ld: another object has this "
		    "name, a new one is tried",
		    r.status);
		verdict = VERDICT_RENAME;
	}
	http_request_free(&r);
	return verdict;
}

static bool
is_ours(const struct http_request *r, const struct swift_object *object)
{
	const char *length;
	char *end;
	long long size;

	length = buf_text(&r->answer[HTTP_CONTENT_LENGTH]);
	size = strtoll(length, &end, 10);
	/*
	 * Another account may have put the same content for other recipients
	 * into the same container; where the fingerprint shows, it tells.
	 */
	if (r->answer[HTTP_FINGERPRINT].len > 0 && *object->metadata != '\0' &&
	    strstr(object->metadata, buf_text(&r->answer[HTTP_FINGERPRINT])) ==
		NULL)
		return false;
	return end != length && *end == '\0' && size == object->message->size &&
	       is_etag(&r->answer[HTTP_ETAG], object->message->md5_hex);
}

/* Some front ends put the ETag in quotes. */
static bool
is_etag(const struct buf *etag, const char *md5_hex)
{
	const char *text;
	size_t len;

	text = buf_text(etag);
	len = etag->len;
	if (len >= 2 && text[0] == '"' && text[len - 1] == '"') {
		text++;
		len -= 2;
	}
	return len == strlen(md5_hex) && strncasecmp(text, md5_hex, len) == 0;
}

/* What every request's answer means if nothing special is known of it. */
static enum verdict
judge_status(const struct http_request *r, enum http_fault fault,
    struct swift_result *result)
{
	if (fault == HTTP_MISCONFIGURED)
		return settle(result, SWIFT_MISCONFIGURED);
	result->outcome = SWIFT_TEMPORARY;
	if (fault == HTTP_NO_ANSWER)
		return VERDICT_RETRY;
	switch (r->status) {
	case 401:
	case 403:
	case 404:
		return settle(result, SWIFT_MISCONFIGURED);
	case 413:
		return settle(result, SWIFT_FULL);
	case 507:
		result->outcome = SWIFT_FULL;
		return VERDICT_RETRY;
	case 408:
	case 422:
	case 429:
	case 498:
	case 499:
		return VERDICT_RETRY;
	default:
		break;
	}
	if (r->status >= 300 && r->status < 400)
		return settle(result, SWIFT_MISCONFIGURED);
	return r->status >= 500 ? VERDICT_RETRY
				: settle(result, SWIFT_TEMPORARY);
}

static enum verdict
settle(struct swift_result *result, enum swift_outcome outcome)
{
	result->outcome = outcome;
	return VERDICT_DONE;
}

static int
rename_object(struct swift_object *object)
{
	buf_reset(&object->name);
	return object_name(&object->name, &object->when, object->message->size);
}

/* Waits before the next try; false when the deadline comes before it. */
static bool
back_off(const struct attempt *attempt, unsigned int tries)
{
	uint32_t random;
	int64_t wait_ms;

	wait_ms = BACKOFF_FIRST_MS;
	while (--tries > 0 && wait_ms < BACKOFF_MAX_MS)
		wait_ms *= 2;
	/* Between half and all of it, so that many do not come at once. */
	if (getrandom(&random, sizeof(random), 0) == sizeof(random))
		wait_ms = wait_ms / 2 + random % (wait_ms / 2 + 1);
	if (attempt->retry_after_ms > wait_ms)
		wait_ms = attempt->retry_after_ms;
	if (wait_ms >= clock_left_ms(attempt->deadline_ms))
		return false;
	(void)poll(NULL, 0, (int)wait_ms);
	return true;
}

/* A fault that is tried again; the last one is in the caller's line. */
static void
log_try(const struct account *a, const struct swift_result *result)
{
	struct log_line l;

	log_begin(&l, LOG_ACCOUNT, LOG_LEVEL_WARNING);
	log_add(&l, "account", "%s", a->name);
	log_add(&l, "request", "%s", buf_text(&result->request));
	log_add(&l, "status", "%ld", result->status);
	if (result->trans.len > 0)
		log_add(&l, "trans", "%s", buf_text(&result->trans));
	log_add(&l, "tries", "%u", result->tries);
	log_add_quoted(&l, "reason", buf_text(&result->reason));
	log_end(&l);
}

/* Makes a request and notes in *result what came of it. */
static enum http_fault
perform(struct swift *s, struct http_request *r, int64_t deadline_ms,
    struct swift_result *result)
{
	const struct buf *trans;
	enum http_fault fault;

	fault = http_perform(&s->http, r, deadline_ms);
	trans = r->answer[HTTP_TRANS_ID].len > 0 ? &r->answer[HTTP_TRANS_ID]
						 : &r->answer[HTTP_REQUEST_ID];
	buf_reset(&result->request);
	buf_reset(&result->reason);
	buf_reset(&result->trans);
	(void)buf_add_text(&result->request, r->method);
	result->status = r->status;
	log_printable(&result->trans, buf_text(trans), trans->len, 100);
	if (fault == HTTP_ANSWERED)
		(void)buf_addf(&result->reason, "answered %ld", r->status);
	else
		(void)buf_add_text(&result->reason, buf_text(&r->reason));
	return fault;
}

/* result->outcome is SWIFT_STORED when there is a token or none is needed. */
static enum verdict
ensure_login(struct swift *s, const struct account *a, struct attempt *attempt,
    struct swift_result *result)
{
	if (a->auth_version == AUTH_TEMPURL || login_of(s, a)->token.len > 0)
		return settle(result, SWIFT_STORED);
	return a->auth_version == AUTH_V1 ? login_v1(s, a, attempt, result)
					  : login_v3(s, a, attempt, result);
}

static struct login *
login_of(struct swift *s, const struct account *a)
{
	return &s->logins[a - s->config->accounts];
}

/* tempauth: swift/common/middleware/tempauth.py; Ceph answers 204. */
static enum verdict
login_v1(struct swift *s, const struct account *a, struct attempt *attempt,
    struct swift_result *result)
{
	struct http_request r;
	enum http_fault fault;
	enum verdict verdict;
	const struct buf *token;

	http_request_init(&r, a, "GET");
	fault = HTTP_NO_ANSWER;
	if (buf_add_text(&r.url, a->authurl) == 0 &&
	    buf_addf(&r.headers, "X-Auth-User: %s\nX-Auth-Key: %s\n", a->user,
		a->key) == 0)
		fault = perform(s, &r, attempt->deadline_ms, result);
	token = r.answer[HTTP_AUTH_TOKEN].len > 0
		    ? &r.answer[HTTP_AUTH_TOKEN]
		    : &r.answer[HTTP_STORAGE_TOKEN];
	if (fault == HTTP_ANSWERED && (r.status == 200 || r.status == 204))
		verdict = take_login(a, login_of(s, a), buf_text(token),
		    buf_text(&r.answer[HTTP_STORAGE_URL]), result);
	else
		verdict = judge_login(&r, fault, attempt, result);
	http_request_free(&r);
	return verdict;
}

/* docs.openstack.org/api-ref/identity/v3, "Authentication and tokens" */
static enum verdict
login_v3(struct swift *s, const struct account *a, struct attempt *attempt,
    struct swift_result *result)
{
	struct http_request r;
	enum http_fault fault;
	enum verdict verdict;
	char *body, *storage_url;
	size_t len;

	http_request_init(&r, a, "POST");
	fault = HTTP_NO_ANSWER;
	body = v3_request(a);
	len = strlen(a->authurl);
	while (len > 0 && a->authurl[len - 1] == '/')
		len--;
	if (body != NULL && buf_add(&r.url, a->authurl, len) == 0 &&
	    (strcmp(buf_text(&r.url) + (len < 3 ? 0 : len - 3), "/v3") == 0 ||
		buf_add_text(&r.url, "/v3") == 0) &&
	    buf_add_text(&r.url, "/auth/tokens") == 0 &&
	    buf_add_text(&r.headers, "Content-Type: application/json\n"
				     "Accept: application/json\n") == 0) {
		r.text = body;
		fault = perform(s, &r, attempt->deadline_ms, result);
	}
	if (body != NULL)
		explicit_bzero(body, strlen(body));
	free(body);
	if (fault == HTTP_ANSWERED && (r.status == 200 || r.status == 201)) {
		storage_url = find_endpoint(a, &r.body);
		verdict = take_login(a, login_of(s, a),
		    buf_text(&r.answer[HTTP_SUBJECT_TOKEN]),
		    storage_url == NULL ? "" : storage_url, result);
		free(storage_url);
	} else {
		verdict = judge_login(&r, fault, attempt, result);
	}
	http_request_free(&r);
	return verdict;
}

static enum verdict
judge_login(const struct http_request *r, enum http_fault fault,
    struct attempt *attempt, struct swift_result *result)
{
	attempt->retry_after_ms = r->retry_after_ms;
	/* Keystone's 400 is about what it was asked: ours to mend. */
	if (fault == HTTP_ANSWERED && r->status == 400)
		return settle(result, SWIFT_MISCONFIGURED);
	return judge_status(r, fault, result);
}

/* Keeps a token and where it leads, if both can be used. */
static enum verdict
take_login(const struct account *a, struct login *login, const char *token,
    const char *storage_url, struct swift_result *result)
{
	size_t len;

	if (*token == '\0') {
		(void)buf_add_text(&result->reason, " without a token");
		result->outcome = SWIFT_TEMPORARY;
		return VERDICT_RETRY;
	}
	if (a->object_storage_url != NULL)
		storage_url = a->object_storage_url;
	if (strncasecmp(storage_url, "http://", 7) != 0 &&
	    strncasecmp(storage_url, "https://", 8) != 0) {
		(void)buf_add_text(&result->reason,
		    a->auth_version == AUTH_V1
			? ", without a storage URL"
			: ", the catalog has no matching endpoint");
		return settle(result, SWIFT_MISCONFIGURED);
	}
	if (strncasecmp(a->authurl, "https:", 6) == 0 &&
	    strncasecmp(storage_url, "https:", 6) != 0) {
		(void)buf_add_text(&result->reason,
		    ", but the storage URL is not https as authurl is");
		return settle(result, SWIFT_MISCONFIGURED);
	}
	len = strlen(storage_url);
	while (len > 0 && storage_url[len - 1] == '/')
		len--;
	buf_reset(&login->token);
	buf_reset(&login->storage_url);
	if (buf_add_text(&login->token, token) == -1 ||
	    buf_add(&login->storage_url, storage_url, len) == -1) {
		buf_reset(&login->token);
		(void)buf_add_text(&result->reason, ", too long for us");
		return settle(result, SWIFT_TEMPORARY);
	}
	return settle(result, SWIFT_STORED);
}

/* The body of POST /v3/auth/tokens; free(3) it. */
static char *
v3_request(const struct account *a)
{
	json_t *auth, *root, *scope;
	char *text;

	/* s: may be NULL all the way; jansson then reports it at the end. */
	auth = json_pack("{s:o}", "identity", v3_identity(a));
	scope = v3_scope(a);
	if (auth != NULL && scope != NULL)
		(void)json_object_set(auth, "scope", scope);
	json_decref(scope);
	root = json_pack("{s:o}", "auth", auth);
	text = json_dumps(root, JSON_COMPACT);
	json_decref(root);
	return text;
}

static json_t *
v3_identity(const struct account *a)
{
	json_t *user;

	if (config_has_credential(a))
		return json_pack("{s:[s],s:{s:s,s:s}}", "methods",
		    "application_credential", "application_credential", "id",
		    a->application_credential_id, "secret",
		    a->application_credential_secret);
	user = named(a->user_id == NULL ? a->user : NULL, a->user_id,
	    a->user_domain_name, a->user_domain_id);
	if (user != NULL)
		(void)json_object_set_new(user, "password",
		    json_string(a->key));
	return json_pack("{s:[s],s:{s:o}}", "methods", "password", "password",
	    "user", user);
}

/* NULL for none: an application credential has its own. */
static json_t *
v3_scope(const struct account *a)
{
	const char *id, *name;

	id = config_project_id(a);
	name = id == NULL ? config_project_name(a) : NULL;
	if (config_has_credential(a) || (id == NULL && name == NULL))
		return NULL;
	return json_pack("{s:o}", "project",
	    named(name, id, a->project_domain_name, a->project_domain_id));
}

/* By id, or by a name within a domain; "default" as the clients have it. */
static json_t *
named(const char *name, const char *id, const char *domain_name,
    const char *domain_id)
{
	if (id != NULL)
		return json_pack("{s:s}", "id", id);
	if (domain_id == NULL && domain_name != NULL)
		return json_pack("{s:s,s:{s:s}}", "name", name, "domain",
		    "name", domain_name);
	return json_pack("{s:s,s:{s:s}}", "name", name, "domain", "id",
	    domain_id == NULL ? "default" : domain_id);
}

/* The URL of the wanted service in token.catalog; free(3) it; NULL. */
static char *
find_endpoint(const struct account *a, const struct buf *body)
{
	const json_t *catalog, *entry;
	const char *url;
	char *copy;
	json_t *root;
	size_t i;

	root = json_loadb(buf_text(body), body->len, 0, NULL);
	catalog = json_object_get(json_object_get(root, "token"), "catalog");
	url = NULL;
	for (i = 0; i < json_array_size(catalog) && url == NULL; i++) {
		entry = json_array_get(catalog, i);
		if (is_text(entry, "type", a->service_type))
			url = endpoint_url(a, entry);
	}
	copy = url == NULL ? NULL : strdup(url);
	json_decref(root);
	return copy;
}

/* Borrowed from entry; NULL when no endpoint matches. */
static const char *
endpoint_url(const struct account *a, const json_t *entry)
{
	const json_t *endpoints, *e;
	const char *interface, *url;
	size_t i, len;

	endpoints = json_object_get(entry, "endpoints");
	/* "publicURL" is how the older clients spell "public". */
	len = strcspn(a->endpoint_type, "U");
	for (i = 0; i < json_array_size(endpoints); i++) {
		e = json_array_get(endpoints, i);
		interface = json_string_value(json_object_get(e, "interface"));
		url = json_string_value(json_object_get(e, "url"));
		if (interface == NULL || url == NULL ||
		    strlen(interface) != len ||
		    strncmp(interface, a->endpoint_type, len) != 0)
			continue;
		if (a->region_name == NULL ||
		    is_text(e, "region", a->region_name) ||
		    is_text(e, "region_id", a->region_name))
			return url;
	}
	return NULL;
}

static bool
is_text(const json_t *object, const char *key, const char *value)
{
	const char *text;

	text = json_string_value(json_object_get(object, key));
	return text != NULL && strcmp(text, value) == 0;
}

/*
 * Fills in the URL and the authentication for an object, or for the
 * container where object is NULL.  Returns 0 or -1 with errno.
 */
static int
make_request(struct swift *s, const struct account *a, struct http_request *r,
    const struct swift_object *object)
{
	struct buf path;
	const char *base;
	int result;

	buf_init(&path, URL_MAX);
	result = buf_addf(&path, "/%s", a->container);
	if (result == 0 && object != NULL)
		result = buf_addf(&path, "/%s%s", a->prefix,
		    buf_text(&object->name));
	if (result == 0 && a->auth_version == AUTH_TEMPURL) {
		result = sign(a, r, a->storage_url, buf_text(&path));
	} else if (result == 0) {
		base = buf_text(&login_of(s, a)->storage_url);
		result = buf_add_text(&r->url, base);
		if (result == 0)
			result = http_encode_path(&r->url, buf_text(&path));
		if (result == 0)
			result = buf_addf(&r->headers, "X-Auth-Token: %s\n",
			    buf_text(&login_of(s, a)->token));
	}
	buf_free(&path);
	return result;
}

/* swift/common/middleware/tempurl.py: HMAC of method, expiry and path. */
static int
sign(const struct account *a, struct http_request *r, const char *url,
    const char *path)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	const EVP_MD *type;
	struct buf text;
	unsigned int digest_len = 0, i;
	long long expires;
	size_t len;
	int result;

	len = strlen(url);
	while (len > 0 && url[len - 1] == '/')
		len--;
	if (buf_add(&r->url, url, len) == -1 ||
	    http_encode_path(&r->url, path) == -1)
		return -1;
	if (a->temp_url_query != NULL)
		return buf_addf(&r->url, "?%s",
		    a->temp_url_query + (*a->temp_url_query == '?' ? 1 : 0));
	expires = (long long)time(NULL) + TEMPURL_LIFE_S;
	url = strstr(url, "://") + 3;
	i = (unsigned int)strcspn(url, "/");
	len -= (size_t)(url + i - a->storage_url);
	type = strcmp(a->temp_url_digest, "sha1") == 0     ? EVP_sha1()
	       : strcmp(a->temp_url_digest, "sha512") == 0 ? EVP_sha512()
							   : EVP_sha256();
	buf_init(&text, URL_MAX);
	result = buf_addf(&text, "%s\n%lld\n%.*s%s", r->method, expires,
	    (int)len, url + i, path);
	if (result == 0 &&
	    HMAC(type, a->temp_url_key, (int)strlen(a->temp_url_key),
		(const unsigned char *)text.data, text.len, digest,
		&digest_len) == NULL)
		result = -1;
	if (result == 0)
		result = buf_add_text(&r->url, "?temp_url_sig=");
	for (i = 0; result == 0 && i < digest_len; i++)
		result = buf_addf(&r->url, "%02x", digest[i]);
	if (result == 0)
		result = buf_addf(&r->url, "&temp_url_expires=%lld", expires);
	buf_free(&text);
	return result;
}

static int
add_put_headers(struct http_request *r, const struct swift_object *object,
    bool plain)
{
	const struct account *a;

	a = r->account;
	if (buf_addf(&r->headers,
		"Content-Type: %s\nETag: %s\nIf-None-Match: *\n",
		a->content_type, object->message->md5_hex) == -1)
		return -1;
	if (a->delete_after_s > 0 &&
	    buf_addf(&r->headers, "X-Delete-After: %lld\n",
		(long long)a->delete_after_s) == -1)
		return -1;
	return plain ? 0 : buf_add_text(&r->headers, object->metadata);
}

int
swift_delete(struct swift *s, const struct account *a,
    const struct swift_object *object, int64_t deadline_ms,
    struct swift_result *result)
{
	struct http_request r;
	enum http_fault fault;
	int deleted;

	http_request_init(&r, a, "DELETE");
	fault = HTTP_NO_ANSWER;
	if (make_request(s, a, &r, object) == 0)
		fault = perform(s, &r, deadline_ms, result);
	deleted =
	    fault == HTTP_ANSWERED && (r.status / 100 == 2 || r.status == 404)
		? 0
		: -1;
	http_request_free(&r);
	return deleted;
}

enum swift_outcome
swift_check(struct swift *s, const struct account *a,
    struct swift_object *probe, int64_t deadline_ms,
    struct swift_result *result, struct buf *warnings)
{
	struct attempt attempt = { .deadline_ms = deadline_ms };

	result->tries = 1;
	(void)ensure_login(s, a, &attempt, result);
	if (result->outcome == SWIFT_STORED &&
	    check_container(s, a, &attempt, result, warnings) && probe != NULL)
		(void)check_probe(s, a, probe, &attempt, result, warnings);
	return result->outcome;
}

static bool
check_container(struct swift *s, const struct account *a,
    struct attempt *attempt, struct swift_result *result, struct buf *warnings)
{
	struct http_request r;
	enum http_fault fault;

	/* Swift signs objects only, tempurl.py's _get_path_parts(). */
	if (a->auth_version == AUTH_TEMPURL) {
		(void)buf_add_text(warnings,
		    ", warning: a TempURL cannot show the container");
		return true;
	}
	http_request_init(&r, a, "HEAD");
	fault = HTTP_NO_ANSWER;
	if (make_request(s, a, &r, NULL) == 0)
		fault = perform(s, &r, attempt->deadline_ms, result);
	if (fault == HTTP_ANSWERED && r.status / 100 == 2) {
		(void)settle(result, SWIFT_STORED);
	} else if (fault == HTTP_ANSWERED && r.status == 403) {
		(void)settle(result, SWIFT_STORED);
		(void)buf_add_text(warnings,
		    ", warning: no right to look at the container (403)");
	} else {
		(void)judge_status(&r, fault, result);
	}
	http_request_free(&r);
	return result->outcome == SWIFT_STORED;
}

static bool
check_probe(struct swift *s, const struct account *a,
    struct swift_object *probe, struct attempt *attempt,
    struct swift_result *result, struct buf *warnings)
{
	struct swift_result deletion;
	struct http_request r;
	enum http_fault fault;

	http_request_init(&r, a, "PUT");
	r.message = probe->message;
	fault = HTTP_NO_ANSWER;
	if (make_request(s, a, &r, probe) == 0 &&
	    buf_addf(&r.headers,
		"Content-Type: %s\nETag: %s\nX-Delete-After: %d\n",
		a->content_type, probe->message->md5_hex, PROBE_LIFE_S) == 0)
		fault = perform(s, &r, attempt->deadline_ms, result);
	if (fault == HTTP_ANSWERED && r.status == 201 &&
	    is_etag(&r.answer[HTTP_ETAG], probe->message->md5_hex))
		(void)settle(result, SWIFT_STORED);
	else
		(void)judge_status(&r, fault, result);
	http_request_free(&r);
	if (result->outcome != SWIFT_STORED)
		return false;
	http_request_init(&r, a, "HEAD");
	fault = HTTP_NO_ANSWER;
	if (make_request(s, a, &r, probe) == 0)
		fault = perform(s, &r, attempt->deadline_ms, result);
	if (fault == HTTP_ANSWERED && (r.status == 403 || r.status == 401))
		(void)buf_addf(warnings,
		    ", warning: no right to look at an object (%ld)", r.status);
	else if (fault != HTTP_ANSWERED || r.status != 200 ||
		 !is_ours(&r, probe))
		(void)settle(result, SWIFT_TEMPORARY);
	http_request_free(&r);
	swift_result_init(&deletion);
	if (swift_delete(s, a, probe, attempt->deadline_ms, &deletion) == -1) {
		(void)buf_addf(warnings,
		    ", warning: the probe was not deleted (%s), it expires in "
		    "an hour",
		    buf_text(&deletion.reason));
		if (deletion.status != 401 && deletion.status != 403) {
			buf_reset(&result->request);
			buf_reset(&result->reason);
			(void)buf_add_text(&result->request, "DELETE");
			(void)buf_add_text(&result->reason,
			    buf_text(&deletion.reason));
			result->status = deletion.status;
			(void)settle(result, SWIFT_TEMPORARY);
		}
	}
	swift_result_free(&deletion);
	return result->outcome == SWIFT_STORED;
}

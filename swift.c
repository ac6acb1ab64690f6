/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The store: what Swift's and Keystone's answers mean and what is tried
 * again.  http.c makes the requests, deliver.c decides what a failure means
 * for the message.
 */
#include <sys/random.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "digest.h"
#include "log.h"
#include "object.h"
#include "swift.h"
#include "text.h"

#include "banned.h"

enum {
	BACKOFF_FIRST_MS = 500,
	BACKOFF_DOUBLINGS = 5,
	DELETE_TRIES = 100, /* as many as there is time for */
	DELETE_TRY_MS = 3000,
	TOKEN_MAX = 16 * 1024,
	URL_MAX = 8 * 1024,
	TOKEN_FILE_MAX = 64 * 1024,
	TOKEN_LIFE_S = 3600, /* of a token whose end nobody tells (Ceph RGW) */
	TOKEN_LEFT_S = 60,   /* that a token must be good for */
	TEMPURL_LIFE_S = 600 /* covers any deadline and skewed clocks */
};

/* What is not escaped in a path: RFC 3986 section 2.3, and '/'. */
#define PATH_ESCAPED "!\"#$%&'()*+,:;<=>?@[\\]^`{|}"

/* What a session knows of an account once it has logged in. */
struct login {
	struct buf token;       /* owned; "" while there is none */
	struct buf storage_url; /* owned */
	int64_t ends_s;         /* of the token, time(2) */
	bool asked_file;        /* the token_file was read */
	bool from_file;         /* the token is the file's */
};

struct swift {
	const struct config *config; /* borrowed */
	struct http *http;           /* owned */
	struct login *logins;        /* owned; one for each account */
};

/* What one try showed. */
enum verdict {
	VERDICT_DONE,    /* p->outcome is final */
	VERDICT_RETRY,   /* may pass; p->outcome is for the last time */
	VERDICT_WAIT,    /* the same; we are too many, nothing is wrong */
	VERDICT_MISSING, /* there is no such object */
	VERDICT_RENAME,  /* the name is taken */
	VERDICT_LOGIN,   /* the token was refused */
	VERDICT_PLAIN    /* the metadata was refused */
};

/*
 * What an answer means when nothing special is known of the request, CONTRACT
 * section 3; any other status is temporary and not tried again.
 */
static const struct {
	int from, to;
	enum swift_outcome outcome;
	enum verdict verdict;
} meanings[] = {
	{ 300, 400, SWIFT_MISCONFIGURED, VERDICT_DONE }, /* 3xx, 400 */
	{ 401, 401, SWIFT_MISCONFIGURED, VERDICT_LOGIN },
	{ 403, 404, SWIFT_MISCONFIGURED, VERDICT_DONE },
	{ 408, 408, SWIFT_TEMPORARY, VERDICT_RETRY },
	{ 413, 413, SWIFT_FULL, VERDICT_DONE },
	{ 422, 422, SWIFT_TEMPORARY, VERDICT_RETRY }, /* damaged on its way */
	{ 429, 429, SWIFT_TEMPORARY, VERDICT_WAIT },
	{ 498, 498, SWIFT_TEMPORARY, VERDICT_WAIT },
	{ 499, 499, SWIFT_TEMPORARY, VERDICT_RETRY },
	{ 507, 507, SWIFT_FULL, VERDICT_RETRY },
	{ 500, 599, SWIFT_TEMPORARY, VERDICT_RETRY },
};

void
swift_put_init(struct swift_put *p, const struct account *account)
{
	*p = (struct swift_put){
		.account = account,
		.name = { .max = OBJECT_NAME_MAX },
		.metadata = "",
		.client = -1,
		.retries = account->retries,
		.plain = !account->metadata,
		.request = "",
		.reason = { .max = 1024 },
		.trans = { .max = 128 },
	};
}

void
swift_put_free(struct swift_put *p)
{
	buf_free(&p->name);
	buf_free(&p->reason);
	buf_free(&p->trans);
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
	s->http = http_open();
	s->logins = calloc(config->naccounts, sizeof(s->logins[0]));
	if (s->logins == NULL || s->http == NULL) {
		swift_close(s);
		errno = ENOMEM;
		return NULL;
	}
	for (i = 0; i < config->naccounts; i++)
		s->logins[i] = (struct login){ .token = { .max = TOKEN_MAX },
			.storage_url = { .max = URL_MAX } };
	return s;
}

void
swift_close(struct swift *s)
{
	size_t i;

	if (s == NULL)
		return;
	for (i = 0; s->logins != NULL && i < s->config->naccounts; i++) {
		buf_free(&s->logins[i].token);
		buf_free(&s->logins[i].storage_url);
	}
	free(s->logins);
	http_close(s->http);
	free(s);
}

static struct login *
login_of(const struct swift *s, const struct swift_put *p)
{
	return &s->logins[p->account->index];
}

static enum verdict
settle(struct swift_put *p, enum swift_outcome outcome)
{
	p->outcome = outcome;
	return VERDICT_DONE;
}

/* Says why; what was said before is of another request. */
static enum verdict
fail(struct swift_put *p, enum swift_outcome outcome, const char *reason)
{
	buf_reset(&p->reason);
	buf_adds(&p->reason, reason);
	return settle(p, outcome);
}

/* Which host a request went to, without the user part of its URL. */
static void
add_host(struct buf *out, const char *url)
{
	const char *at, *host;
	size_t len;

	host = strstr(url, "://");
	host = host == NULL ? url : host + 3;
	len = strcspn(host, "/?");
	at = memrchr(host, '@', len);
	if (at != NULL)
		at++;
	else
		at = host;
	buf_add(out, at, (size_t)(host + len - at));
}

/* What an answer says to people: a line of text, or Keystone's message. */
static void
add_answer(const struct http_request *r, struct buf *out)
{
	const char *text;
	json_t *root;

	root = json_loadb(buf_text(&r->answer), r->answer.len, 0, NULL);
	text = json_string_value(
	    json_object_get(json_object_get(root, "error"), "message"));
	if (text == NULL)
		text = buf_text(&r->answer);
	/* Not a page. */
	if (r->status >= 300 && *text != '\0' && *text != '<') {
		buf_adds(out, ": ");
		log_escape(out, text, strcspn(text, "\r\n"), 100);
	}
	json_decref(root);
}

/* Makes a request and notes in *p what came of it; whether it was answered. */
static bool
perform(struct swift *s, struct swift_put *p, struct http_request *r)
{
	const char *trans;

	p->request = r->method;
	p->fault = http_perform(s->http, r, p->deadline_ms);
	p->status = r->status;
	p->retry_after_ms = r->retry_after_ms;
	buf_reset(&p->reason);
	buf_reset(&p->trans);
	add_host(&p->reason, buf_text(&r->url));
	if (p->fault != HTTP_ANSWERED) {
		buf_addf(&p->reason, ": %s", buf_text(&r->reason));
		return false;
	}
	buf_addf(&p->reason, " answered %ld", r->status);
	add_answer(r, &p->reason);
	trans = http_answer(s->http, "X-Trans-Id");
	if (*trans == '\0')
		trans = http_answer(s->http, "X-Openstack-Request-Id");
	log_escape(&p->trans, trans, strlen(trans), 100);
	return true;
}

static enum verdict
judge(struct swift_put *p)
{
	size_t i;

	if (p->fault != HTTP_ANSWERED) {
		p->outcome = p->fault == HTTP_MISCONFIGURED
				 ? SWIFT_MISCONFIGURED
				 : SWIFT_TEMPORARY;
		return p->fault == HTTP_MISCONFIGURED ? VERDICT_DONE
						      : VERDICT_RETRY;
	}
	for (i = 0; i < COUNT(meanings); i++) {
		if (p->status >= meanings[i].from &&
		    p->status <= meanings[i].to) {
			p->outcome = meanings[i].outcome;
			return meanings[i].verdict;
		}
	}
	return settle(p, SWIFT_TEMPORARY);
}

static void
cut_slashes(struct buf *url)
{
	while (url->len > 0 && url->data[url->len - 1] == '/')
		buf_cut(url, url->len - 1);
}

/* What a status for the container, or a new object in it, asks to be done. */
static void
add_hint(struct swift_put *p)
{
	if (p->status == 404)
		buf_addf(&p->reason, "; container %s does not exist",
		    p->account->container);
	if (p->status == 413 && p->trans.len == 0)
		buf_adds(&p->reason,
		    "; that is the limit of a server in front of Swift "
		    "(nginx: client_max_body_size)");
}

/* Says which endpoint the catalog does not have. */
static void
add_endpoint(const struct account *a, struct buf *out)
{
	const char *project;

	project = config_project_name(a) != NULL ? config_project_name(a)
						 : config_project_id(a);
	buf_addf(out,
	    "; the catalog of project %s has no endpoint of type %s and "
	    "interface %s in region %s",
	    project == NULL ? "(the user's own)" : project, a->service_type,
	    a->endpoint_type,
	    a->region_name == NULL ? "(any)" : a->region_name);
}

/* Keeps a token and where it leads, if both can be used. */
static enum verdict
take_login(struct swift *s, struct swift_put *p, const char *token,
    const char *storage_url)
{
	struct login *known = login_of(s, p);
	const struct account *a = p->account;

	if (*token == '\0') {
		buf_adds(&p->reason, " without a token");
		p->outcome = SWIFT_TEMPORARY;
		return VERDICT_RETRY;
	}
	if (a->object_storage_url != NULL)
		storage_url = a->object_storage_url;
	/* Behind a '?' or '#' the object's name would be none. */
	if ((!text_begins(storage_url, "http://") &&
		!text_begins(storage_url, "https://")) ||
	    strpbrk(storage_url, " ?#") != NULL) {
		if (a->auth_version == AUTH_V1)
			buf_adds(&p->reason, ", without a storage URL");
		else
			add_endpoint(a, &p->reason);
		return settle(p, SWIFT_MISCONFIGURED);
	}
	if (text_begins(a->authurl, "https:") &&
	    !text_begins(storage_url, "https:")) {
		buf_adds(&p->reason,
		    ", but the storage URL is not https as authurl is");
		return settle(p, SWIFT_MISCONFIGURED);
	}
	buf_reset(&known->token);
	buf_reset(&known->storage_url);
	buf_adds(&known->storage_url, storage_url);
	cut_slashes(&known->storage_url);
	buf_adds(&known->token, token);
	if (known->token.error == 0 && known->storage_url.error == 0)
		return settle(p, SWIFT_STORED);
	buf_reset(&known->token);
	buf_adds(&p->reason, ", too long for us");
	return settle(p, SWIFT_TEMPORARY);
}

/* Seconds that a token lives, as the newest answer says. */
static int64_t
v1_life(const struct swift *s)
{
	const char *text = http_answer(s->http, "X-Auth-Token-Expires");
	char *end;
	long life;

	life = strtol(text, &end, 10);
	return end == text || *end != '\0' || life < 0 ? TOKEN_LIFE_S : life;
}

/* tempauth: swift/common/middleware/tempauth.py; Ceph answers 204. */
static enum verdict
login_v1(struct swift *s, struct swift_put *p)
{
	const struct account *a = p->account;
	struct http_request r;
	const char *token;
	enum verdict verdict;

	http_request_init(&r, &a->http, "GET");
	buf_adds(&r.url, a->authurl);
	http_header(&r, "X-Auth-User: %s", a->user);
	http_header(&r, "X-Auth-Key: %s", a->key);
	if (perform(s, p, &r) && (p->status == 200 || p->status == 204)) {
		login_of(s, p)->ends_s = time(NULL) + v1_life(s);
		token = http_answer(s->http, "X-Auth-Token");
		if (*token == '\0')
			token = http_answer(s->http, "X-Storage-Token");
		verdict = take_login(s, p, token,
		    http_answer(s->http, "X-Storage-Url"));
	} else {
		verdict = judge(p);
	}
	http_request_free(&r);
	return verdict;
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

/* The body of POST /v3/auth/tokens; free(3) it; NULL without memory. */
static char *
v3_request(const struct account *a)
{
	const char *id, *name;
	json_t *auth, *user;
	char *text;

	id = config_project_id(a);
	name = config_project_name(a);
	if (config_has_credential(a)) {
		/* It has a scope of its own. */
		auth =
		    json_pack("{s:{s:[s],s:{s:s,s:s}}}", "identity", "methods",
			"application_credential", "application_credential",
			"id", a->application_credential_id, "secret",
			a->application_credential_secret);
	} else {
		user = named(a->user, a->user_id, a->user_domain_name,
		    a->user_domain_id);
		/* A step that fails leaves nothing that could be sent. */
		if (json_object_set_new(user, "password",
			json_string(a->key)) == -1) {
			json_decref(user);
			return NULL;
		}
		auth = json_pack("{s:{s:[s],s:{s:o}}}", "identity", "methods",
		    "password", "password", "user", user);
		if ((id != NULL || name != NULL) &&
		    json_object_set_new(auth, "scope",
			json_pack("{s:o}", "project",
			    named(name, id, a->project_domain_name,
				a->project_domain_id))) == -1) {
			json_decref(auth);
			return NULL;
		}
	}
	auth = json_pack("{s:o}", "auth", auth);
	text = json_dumps(auth, JSON_COMPACT);
	json_decref(auth);
	return text;
}

static bool
is_text(const json_t *object, const char *key, const char *value, size_t len)
{
	const char *text;

	text = json_string_value(json_object_get(object, key));
	return text != NULL && strlen(text) == len &&
	       strncmp(text, value, len) == 0;
}

/* The URL of the wanted service in a catalog, borrowed from it, or NULL. */
static const char *
find_endpoint(const struct account *a, const json_t *catalog)
{
	const json_t *e, *entry, *endpoints;
	const char *region, *url;
	size_t i, k, len;

	/* "publicURL" is how the older clients spell "public". */
	len = strcspn(a->endpoint_type, "U");
	region = a->region_name;
	json_array_foreach(catalog, i, entry)
	{
		endpoints = json_object_get(entry, "endpoints");
		if (!is_text(entry, "type", a->service_type,
			strlen(a->service_type)))
			continue;
		json_array_foreach(endpoints, k, e)
		{
			url = json_string_value(json_object_get(e, "url"));
			if (url != NULL &&
			    is_text(e, "interface", a->endpoint_type, len) &&
			    (region == NULL ||
				is_text(e, "region", region, strlen(region)) ||
				is_text(e, "region_id", region,
				    strlen(region))))
				return url;
		}
	}
	return NULL;
}

/* ISO 8601 in UTC, as Keystone writes it. */
static int64_t
v3_end(const json_t *token)
{
	const char *text;
	struct tm tm = { 0 };

	text = json_string_value(json_object_get(token, "expires_at"));
	return text == NULL || strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) == NULL
		   ? time(NULL) + TOKEN_LIFE_S
		   : timegm(&tm);
}

/* A token without a scope has no catalog; what is not JSON may pass. */
static enum verdict
take_token(struct swift *s, struct swift_put *p, const json_t *token)
{
	const json_t *catalog;
	const char *url;

	catalog = json_object_get(token, "catalog");
	if (p->account->object_storage_url == NULL &&
	    (!json_is_object(token) ||
		(catalog != NULL && !json_is_array(catalog)))) {
		buf_adds(&p->reason, ", but not with the JSON of a token");
		p->outcome = SWIFT_TEMPORARY;
		return VERDICT_RETRY;
	}
	login_of(s, p)->ends_s = v3_end(token);
	url = find_endpoint(p->account, catalog);
	return take_login(s, p, http_answer(s->http, "X-Subject-Token"),
	    url == NULL ? "" : url);
}

/* docs.openstack.org/api-ref/identity/v3, "Authentication and tokens" */
static enum verdict
login_v3(struct swift *s, struct swift_put *p)
{
	const struct account *a = p->account;
	struct http_request r;
	enum verdict verdict;
	json_t *root;
	char *body;

	body = v3_request(a);
	if (body == NULL)
		return fail(p, SWIFT_TEMPORARY, strerror(ENOMEM));
	http_request_init(&r, &a->http, "POST");
	buf_adds(&r.url, a->authurl);
	cut_slashes(&r.url);
	if (r.url.len < 3 || strcmp(r.url.data + r.url.len - 3, "/v3") != 0)
		buf_adds(&r.url, "/v3");
	buf_adds(&r.url, "/auth/tokens");
	http_header(&r, "Content-Type: application/json");
	http_header(&r, "Accept: application/json");
	r.text = body;
	if (perform(s, p, &r) && (p->status == 200 || p->status == 201)) {
		root = json_loadb(buf_text(&r.answer), r.answer.len, 0, NULL);
		verdict = take_token(s, p, json_object_get(root, "token"));
		json_decref(root);
	} else {
		verdict = judge(p);
	}
	explicit_bzero(body, strlen(body));
	free(body);
	http_request_free(&r);
	return verdict;
}

/* What a token was asked with: another question has another answer. */
static json_t *
question(const struct account *a)
{
	return json_pack("{s:s, s:s*, s:s*, s:s*, s:s*, s:s*, s:s*, s:s*, s:s*,"
			 " s:s*, s:s*, s:s*, s:s*, s:s*, s:s*}",
	    "auth_version", a->auth_version == AUTH_V1 ? "1" : "3", "authurl",
	    a->authurl, "user", a->user, "user_id", a->user_id,
	    "user_domain_name", a->user_domain_name, "user_domain_id",
	    a->user_domain_id, "application_credential_id",
	    a->application_credential_id, "project_name",
	    config_project_name(a), "project_id", config_project_id(a),
	    "project_domain_name", a->project_domain_name, "project_domain_id",
	    a->project_domain_id, "region_name", a->region_name,
	    "endpoint_type", a->endpoint_type, "service_type", a->service_type,
	    "object_storage_url", a->object_storage_url);
}

/* Opens an account's token_file; -1 and why it cannot be trusted. */
static int
open_token_file(const struct account *a, const char **reason)
{
	struct stat st;
	int fd;

	fd =
	    open(a->token_file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd == -1 || fstat(fd, &st) == -1)
		*reason = errno == ELOOP ? "is a link" : strerror(errno);
	else if (!S_ISREG(st.st_mode))
		*reason = "is not a file";
	else if (st.st_uid != 0 && st.st_uid != geteuid())
		*reason = "is neither root's nor ours";
	else if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		*reason = "can be written to by others";
	else if (st.st_size > TOKEN_FILE_MAX)
		*reason = "is too large";
	else
		return fd;
	if (fd != -1)
		(void)close(fd);
	return -1;
}

/* Takes the token of an open file; what is wrong with it, or NULL. */
static const char *
read_token(struct swift *s, struct swift_put *p, int fd)
{
	json_t *asked, *file;
	const char *reason;
	json_int_t ends_s;

	file = json_loadfd(fd, 0, NULL);
	asked = question(p->account);
	ends_s = json_integer_value(json_object_get(file, "ends"));
	if (file == NULL)
		reason = "is not JSON";
	else if (!json_equal(asked, json_object_get(file, "asked_with")))
		reason = "was not asked with the same account";
	else if (ends_s < time(NULL) + TOKEN_LEFT_S)
		reason = "holds a token that has ended";
	else if (json_string_value(json_object_get(file, "token")) == NULL ||
		 json_string_value(json_object_get(file, "storage_url")) ==
		     NULL)
		reason = "holds no token";
	else if (take_login(s, p,
		     json_string_value(json_object_get(file, "token")),
		     json_string_value(json_object_get(file, "storage_url"))) ==
		     VERDICT_DONE &&
		 p->outcome == SWIFT_STORED)
		reason = NULL;
	else
		reason = "holds a token that cannot be used";
	json_decref(file);
	json_decref(asked);
	return reason;
}

static void
warn_token_file(const struct swift_put *p, const char *reason)
{
	struct log_line l;

	log_begin(&l, LOG_ACCOUNT, LOG_LEVEL_WARNING);
	log_add(&l, "account", "%s", p->account->name);
	log_add(&l, "token_file", "%s", p->account->token_file);
	log_add_quoted(&l, "reason", reason);
	log_end(&l);
}

/* Uses the token that "swiftdrop login" left, once in a session. */
static bool
use_token_file(struct swift *s, struct swift_put *p)
{
	struct login *login = login_of(s, p);
	const char *reason;
	int fd;

	if (p->account->token_file == NULL || login->asked_file)
		return false;
	login->asked_file = true;
	fd = open_token_file(p->account, &reason);
	if (fd != -1) {
		reason = read_token(s, p, fd);
		(void)close(fd);
	}
	buf_reset(&p->reason);
	login->from_file = reason == NULL;
	if (reason != NULL)
		warn_token_file(p, reason);
	return reason == NULL;
}

static enum verdict
log_in(struct swift *s, struct swift_put *p)
{
	const struct account *a = p->account;
	enum verdict verdict;
	int64_t started_ms;

	if (a->auth_version == AUTH_TEMPURL || login_of(s, p)->token.len > 0 ||
	    use_token_file(s, p))
		return settle(p, SWIFT_STORED);
	started_ms = clock_ms();
	verdict = a->auth_version == AUTH_V1 ? login_v1(s, p) : login_v3(s, p);
	if (p->status == 401 || p->status == 403)
		buf_addf(&p->reason, "; user %s is refused",
		    config_has_credential(a) ? a->application_credential_id
		    : a->user_id != NULL     ? a->user_id
					     : a->user);
	p->auth_ms += clock_ms() - started_ms;
	return verdict;
}

/* Forgets a token that was refused. */
static void
forget_login(struct swift *s, struct swift_put *p)
{
	struct login *login = login_of(s, p);

	buf_reset(&login->token);
	if (login->from_file)
		warn_token_file(p, "holds a token that was refused (401)");
	login->from_file = false;
}

bool
swift_login(struct swift *s, struct swift_put *p)
{
	return log_in(s, p) == VERDICT_DONE && p->outcome == SWIFT_STORED;
}

/* swift/common/middleware/tempurl.py: HMAC of method, expiry and path. */
static void
sign(const struct account *a, struct http_request *r, const char *path)
{
	BUF(text, URL_MAX);
	const char *host;
	long long expires;

	if (a->temp_url_query != NULL) {
		buf_addf(&r->url, "?%s",
		    a->temp_url_query + (*a->temp_url_query == '?' ? 1 : 0));
		return;
	}
	expires = (long long)time(NULL) + TEMPURL_LIFE_S;
	host = strstr(a->storage_url, "://") + 3;
	buf_addf(&text, "%s\n%lld\n%s", r->method, expires,
	    host + strcspn(host, "/"));
	cut_slashes(&text);
	buf_adds(&text, path);
	buf_adds(&r->url, "?temp_url_sig=");
	digest_hmac(a->temp_url_digest, a->temp_url_key, &text, &r->url);
	buf_addf(&r->url, "&temp_url_expires=%lld", expires);
	buf_fail(&r->url, text.error);
}

/* A request for the object, or for its container, authenticated. */
static void
begin(struct swift *s, const struct swift_put *p, struct http_request *r,
    const char *method, bool container)
{
	const struct account *a = p->account;
	BUF(path, URL_MAX);

	http_request_init(r, &a->http, method);
	buf_addf(&path, "/%s", a->container);
	if (!container)
		buf_addf(&path, "/%s%s", a->prefix, buf_text(&p->name));
	buf_adds(&r->url, a->auth_version == AUTH_TEMPURL
			      ? a->storage_url
			      : buf_text(&login_of(s, p)->storage_url));
	cut_slashes(&r->url);
	buf_encode(&r->url, buf_text(&path), path.len, PATH_ESCAPED, "%%%02X");
	if (a->auth_version == AUTH_TEMPURL)
		sign(a, r, buf_text(&path));
	else
		http_header(r, "X-Auth-Token: %s",
		    buf_text(&login_of(s, p)->token));
	buf_fail(&r->url, path.error);
	buf_fail(&r->url, p->name.error);
}

/* As front ends change it: in quotes, W/ for weak, -gzip for compressed. */
static bool
is_our_etag(const struct swift *s, const struct swift_put *p)
{
	const char *etag;

	etag = http_answer(s->http, "ETag");
	etag += text_begins(etag, "W/") ? 2 : 0;
	etag += *etag == '"' ? 1 : 0;
	return text_begins(etag, p->message->md5_hex) &&
	       strcspn(etag + strlen(p->message->md5_hex), "\"-") == 0;
}

/* A request without a body for the object or its container, once logged in. */
static enum verdict
ask(struct swift *s, struct swift_put *p, const char *method, bool container)
{
	struct http_request r;
	enum verdict verdict;

	verdict = log_in(s, p);
	if (verdict != VERDICT_DONE || p->outcome != SWIFT_STORED)
		return verdict;
	begin(s, p, &r, method, container);
	verdict = perform(s, p, &r) && p->status / 100 == 2
		      ? settle(p, SWIFT_STORED)
		      : judge(p);
	http_request_free(&r);
	return p->status == 404 ? VERDICT_MISSING : verdict;
}

enum swift_outcome
swift_head(struct swift *s, struct swift_put *p, bool container)
{
	(void)ask(s, p, "HEAD", container);
	if (container)
		add_hint(p);
	return p->outcome;
}

/* The length counts where it is the content's own. */
bool
swift_is_ours(const struct swift *s, const struct swift_put *p)
{
	const char *length;
	char *end;

	if (p->status != 200 || !is_our_etag(s, p))
		return false;
	if (*http_answer(s->http, "Transfer-Encoding") != '\0' ||
	    *http_answer(s->http, "Content-Encoding") != '\0')
		return true;
	length = http_answer(s->http, "Content-Length");
	return *length != '\0' &&
	       strtoll(length, &end, 10) == p->message->size && *end == '\0';
}

/* An earlier try of ours may have arrived although its answer was lost. */
static enum verdict
resolve_412(struct swift *s, struct swift_put *p)
{
	enum verdict verdict;

	verdict = ask(s, p, "HEAD", false);
	if (p->outcome == SWIFT_STORED && swift_is_ours(s, p)) {
		p->exists = true;
		return VERDICT_DONE;
	}
	p->outcome = SWIFT_TEMPORARY;
	if (verdict == VERDICT_RETRY || verdict == VERDICT_WAIT ||
	    verdict == VERDICT_LOGIN)
		return verdict;
	buf_reset(&p->reason);
	buf_addf(&p->reason,
	    "PUT answered 412, HEAD %ld: another object has this name, a new "
	    "one is tried",
	    p->status);
	return VERDICT_RENAME;
}

/* Only our own ETag says that our octets are there. */
static enum verdict
judge_put(struct swift *s, struct swift_put *p)
{
	add_hint(p);
	switch (p->status) {
	case 201:
		if (is_our_etag(s, p))
			return settle(p, SWIFT_STORED);
		buf_adds(&p->reason, ", but not our ETag");
		(void)settle(p, SWIFT_TEMPORARY);
		return VERDICT_RENAME;
	case 400:
		(void)settle(p, SWIFT_MISCONFIGURED);
		return VERDICT_PLAIN;
	case 412:
		return resolve_412(s, p);
	default:
		return judge(p);
	}
}

/* One PUT, once logged in. */
static enum verdict
try_store(struct swift *s, struct swift_put *p)
{
	const struct account *a = p->account;
	struct http_request r;
	const char *line;
	enum verdict verdict;
	int64_t started_ms;
	size_t len;

	verdict = log_in(s, p);
	if (verdict != VERDICT_DONE || p->outcome != SWIFT_STORED)
		return verdict;
	begin(s, p, &r, "PUT", false);
	r.read = message_read;
	r.body = p->message;
	r.size = p->message->size;
	http_header(&r, "Content-Type: %s", a->content_type);
	http_header(&r, "ETag: %s", p->message->md5_hex);
	http_header(&r, "If-None-Match: *");
	if (a->delete_after_s > 0)
		http_header(&r, "X-Delete-After: %lld",
		    (long long)a->delete_after_s);
	for (line = p->plain ? "" : p->metadata; *line != '\0';
	     line += len + 1) {
		len = strcspn(line, "\n");
		http_header(&r, "%.*s", (int)len, line);
	}
	started_ms = clock_ms();
	(void)perform(s, p, &r);
	p->put_ms += clock_ms() - started_ms;
	/* It may be there: a 503 says that fewer copies are than should be. */
	if (r.resent || p->fault == HTTP_NO_ANSWER || p->status / 100 == 2 ||
	    p->status / 100 == 5)
		p->exists = true;
	http_request_free(&r);
	return judge_put(s, p);
}

/* How long to wait before the next try; -1 when the deadline comes first. */
static int
pause_ms(const struct swift_put *p)
{
	uint32_t random;
	int64_t wait_ms;

	wait_ms = BACKOFF_FIRST_MS
		  << (p->tries <= BACKOFF_DOUBLINGS ? p->tries - 1
						    : BACKOFF_DOUBLINGS);
	/* Between half and all of it, so that many do not come at once. */
	if (getrandom(&random, sizeof(random), 0) == sizeof(random))
		wait_ms = wait_ms / 2 + random % (wait_ms / 2 + 1);
	if (p->retry_after_ms > wait_ms)
		wait_ms = p->retry_after_ms;
	return wait_ms < clock_left_ms(p->deadline_ms) ? (int)wait_ms : -1;
}

void
swift_log_request(struct log_line *l, const struct swift_put *p)
{
	log_add(l, "request", "%s", p->request);
	log_add(l, "status", "%ld", p->status);
	if (p->trans.len > 0)
		log_add(l, "trans", "%s", buf_text(&p->trans));
	log_add(l, "tries", "%u", p->tries);
}

void
swift_log_object(struct log_line *l, const struct swift_put *p)
{
	log_add(l, "object", "%s/%s%s", p->account->container,
	    p->account->prefix, buf_text(&p->name));
}

/* A fault that is tried again; the last one is in the caller's line. */
static void
log_try(const struct swift_put *p)
{
	struct log_line l;

	log_begin(&l, LOG_ACCOUNT, LOG_LEVEL_WARNING);
	log_add(&l, "account", "%s", p->account->name);
	swift_log_request(&l, p);
	log_add_quoted(&l, "reason", buf_text(&p->reason));
	log_end(&l);
}

/* Whether another try follows; does and waits for what it needs. */
static bool
again(struct swift *s, struct swift_put *p, enum verdict verdict)
{
	struct pollfd client = { .fd = p->client };
	int wait_ms;

	wait_ms = 0;
	switch (verdict) {
	case VERDICT_DONE:
	case VERDICT_MISSING:
		return false;
	case VERDICT_LOGIN:
		/* Only a token that was here may have ended since. */
		if (p->fresh || login_of(s, p)->token.len == 0)
			return false;
		p->fresh = true;
		forget_login(s, p);
		break;
	case VERDICT_PLAIN:
		if (p->plain)
			return false;
		p->plain = true;
		buf_adds(&p->reason, ", tried once more without metadata");
		log_try(p);
		break;
	case VERDICT_RETRY:
	case VERDICT_RENAME:
	case VERDICT_WAIT:
		if (verdict != VERDICT_WAIT && p->retries-- <= 0)
			return false;
		if (verdict != VERDICT_RENAME)
			wait_ms = pause_ms(p);
		if (wait_ms == -1)
			return false;
		log_try(p);
		p->tries++;
		break;
	}
	/* A hang-up ends the wait: nobody hears what comes of another try. */
	if (poll(&client, 1, wait_ms) == 0)
		return true;
	(void)fail(p, SWIFT_TEMPORARY, "the client went away");
	return false;
}

int
swift_delete(struct swift *s, const struct swift_put *p, int64_t deadline_ms,
    struct buf *reason, long *status)
{
	struct swift_put d;
	enum verdict verdict;
	bool gone;

	swift_put_init(&d, p->account);
	d.name = p->name; /* stays p's */
	d.tries = 1;
	d.retries = DELETE_TRIES;
	deadline_ms = clock_within(SWIFT_DELETE_MS, deadline_ms);
	do {
		/* One that hangs leaves time for another. */
		d.deadline_ms = clock_within(DELETE_TRY_MS, deadline_ms);
		verdict = ask(s, &d, "DELETE", false);
		d.deadline_ms = deadline_ms;
	} while (again(s, &d, verdict));
	*status = d.status;
	buf_adds(reason, buf_text(&d.reason));
	/* Who may not delete may look, by the signature of a PUT as well. */
	gone = d.outcome == SWIFT_STORED || verdict == VERDICT_MISSING ||
	       ask(s, &d, "HEAD", false) == VERDICT_MISSING;
	buf_free(&d.reason);
	buf_free(&d.trans);
	return gone ? 0 : -1;
}

void
swift_withdraw(struct swift *s, struct swift_put *p, int64_t deadline_ms)
{
	BUF(reason, 1024);
	struct log_line l;
	long status;

	if (!p->exists)
		return;
	p->exists = false;
	buf_adds(&reason, "possible duplicate: not deleted, ");
	if (swift_delete(s, p, deadline_ms, &reason, &status) == 0)
		return;
	log_begin(&l, LOG_IN_DOUBT, LOG_LEVEL_WARNING);
	log_add(&l, "account", "%s", p->account->name);
	swift_log_object(&l, p);
	log_add_quoted(&l, "reason", buf_text(&reason));
	log_end(&l);
}

enum swift_outcome
swift_store(struct swift *s, struct swift_put *p)
{
	enum verdict verdict;

	for (p->tries = 1;;) {
		verdict = try_store(s, p);
		if (!again(s, p, verdict))
			return p->outcome;
		if (verdict != VERDICT_RENAME)
			continue;
		/* What may be under the old name is no delivery. */
		swift_withdraw(s, p, p->deadline_ms);
		buf_reset(&p->name);
		object_name(&p->name, &p->when, p->message->size);
	}
}

/* Replaces the token_file by one that holds text; errno where it cannot. */
static int
replace_token_file(const struct account *a, const char *text)
{
	BUF(path, PATH_MAX);
	size_t len = strlen(text);
	bool written;
	int fd;

	buf_addf(&path, "%s.XXXXXX", a->token_file);
	if (path.error != 0)
		return path.error;
	fd = mkostemp(path.data, O_CLOEXEC); /* with mode 0600 */
	if (fd == -1)
		return errno;
	errno = EIO;
	written = write(fd, text, len) == (ssize_t)len && fsync(fd) == 0;
	(void)close(fd);
	if (written && rename(path.data, a->token_file) == 0)
		return 0;
	fd = errno;
	(void)unlink(path.data);
	return fd;
}

int64_t
swift_write_token(struct swift *s, struct swift_put *p)
{
	struct login *login = login_of(s, p);
	enum verdict verdict;
	json_t *file;
	char *text;
	int error;

	login->asked_file = true;
	p->tries = 1;
	do
		verdict = log_in(s, p);
	while (again(s, p, verdict));
	if (p->outcome != SWIFT_STORED)
		return -1;
	file = json_pack("{s:s, s:I, s:s, s:o}", "token",
	    buf_text(&login->token), "ends", (json_int_t)login->ends_s,
	    "storage_url", buf_text(&login->storage_url), "asked_with",
	    question(p->account));
	text = json_dumps(file, JSON_INDENT(1));
	error = text == NULL ? ENOMEM : replace_token_file(p->account, text);
	json_decref(file);
	if (text != NULL)
		explicit_bzero(text, strlen(text));
	free(text);
	if (error == 0)
		return login->ends_s;
	(void)fail(p, SWIFT_MISCONFIGURED, strerror(error));
	return -1;
}

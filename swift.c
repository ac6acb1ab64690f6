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
#include <unistd.h>

#include "clock.h"
#include "digest.h"
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
	TOKEN_LIFE_MAX_S = 366 * 86400, /* more is a mistake */
	TOKEN_LEFT_S = 60,              /* that a token must be good for */
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
	struct login logins[];       /* one for each account */
};

/* What one try showed; p->outcome is that of the last one. */
enum verdict {
	VERDICT_DONE,    /* another would show the same */
	VERDICT_MISSING, /* likewise: there is no such object */
	VERDICT_RETRY,   /* may pass */
	VERDICT_WAIT,    /* the same; we are too many, nothing is wrong */
	VERDICT_TAKEN,   /* there is an object of this name */
	VERDICT_RENAME,  /* it is another's */
	VERDICT_LOGIN,   /* the token was refused */
	VERDICT_PLAIN    /* the metadata was refused */
};

/*
 * What an answer means, CONTRACT section 3: the first row that fits.  Any other
 * status is temporary and not tried again.
 */
static const struct {
	const char *method; /* NULL for all */
	int from, to;       /* its status; 0 where there is none */
	enum swift_outcome outcome;
	enum verdict verdict;
} meanings[] = {
	{ NULL, 0, 0, SWIFT_TEMPORARY, VERDICT_RETRY },
	{ "PUT", 201, 201, SWIFT_STORED, VERDICT_DONE }, /* with our ETag */
	{ "PUT", 200, 299, SWIFT_TEMPORARY, VERDICT_DONE },
	{ "PUT", 400, 400, SWIFT_MISCONFIGURED, VERDICT_PLAIN },
	{ "PUT", 412, 412, SWIFT_TEMPORARY, VERDICT_TAKEN },
	{ "HEAD", 404, 404, SWIFT_MISCONFIGURED, VERDICT_MISSING },
	{ "DELETE", 404, 404, SWIFT_STORED, VERDICT_DONE },
	{ "DELETE", 202, 202, SWIFT_TEMPORARY, VERDICT_DONE }, /* not yet */
	{ NULL, 200, 299, SWIFT_STORED, VERDICT_DONE },
	{ NULL, 300, 400, SWIFT_MISCONFIGURED, VERDICT_DONE }, /* 3xx, 400 */
	{ NULL, 401, 401, SWIFT_MISCONFIGURED, VERDICT_LOGIN },
	{ NULL, 403, 404, SWIFT_MISCONFIGURED, VERDICT_DONE },
	{ NULL, 408, 408, SWIFT_TEMPORARY, VERDICT_RETRY },
	{ NULL, 413, 413, SWIFT_FULL, VERDICT_DONE },
	{ NULL, 422, 422, SWIFT_TEMPORARY, VERDICT_RETRY }, /* damaged */
	{ NULL, 429, 429, SWIFT_TEMPORARY, VERDICT_WAIT },
	{ NULL, 498, 498, SWIFT_TEMPORARY, VERDICT_WAIT },
	{ NULL, 499, 499, SWIFT_TEMPORARY, VERDICT_RETRY },
	{ NULL, 507, 507, SWIFT_FULL, VERDICT_RETRY },
	{ NULL, 500, 599, SWIFT_TEMPORARY, VERDICT_RETRY },
};

void
swift_put_init(struct swift_put *p, const struct account *account)
{
	*p = (struct swift_put){
		.account = account,
		.name = { .max = OBJECT_NAME_MAX },
		.metadata = { .max = 4 * (size_t)OBJECT_METADATA_MAX },
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
	buf_free(&p->metadata);
	buf_free(&p->reason);
	buf_free(&p->trans);
}

struct swift *
swift_open(const struct config *config)
{
	struct swift *s;
	size_t i;

	s = calloc(1, sizeof(*s) + config->naccounts * sizeof(s->logins[0]));
	if (s == NULL)
		return NULL;
	s->config = config;
	for (i = 0; i < config->naccounts; i++)
		s->logins[i] = (struct login){ .token = { .max = TOKEN_MAX },
			.storage_url = { .max = URL_MAX } };
	s->http = http_open();
	if (s->http != NULL)
		return s;
	swift_close(s);
	errno = ENOMEM;
	return NULL;
}

void
swift_close(struct swift *s)
{
	size_t i;

	for (i = 0; s != NULL && i < s->config->naccounts; i++) {
		buf_free(&s->logins[i].token);
		buf_free(&s->logins[i].storage_url);
	}
	if (s != NULL)
		http_close(s->http);
	free(s);
}

static struct login *
login_of(struct swift *s, const struct swift_put *p)
{
	return &s->logins[p->account->index];
}

/* What came of it, and what more there is to say. */
static enum verdict
settle(struct swift_put *p, enum swift_outcome outcome, enum verdict verdict,
    const char *reason)
{
	p->outcome = outcome;
	buf_adds(&p->reason, reason);
	return verdict;
}

/* A text of a JSON object, borrowed from it; "" where it has none. */
static const char *
text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text == NULL ? "" : text;
}

/* Says which host answered what, in a line or by Keystone, or why not. */
static void
add_answer(const struct http_request *r, struct buf *out)
{
	const char *text, *end = "\r\n";
	json_t *root;

	http_add_outcome(r, out);
	if (r->status < 300)
		return;
	root = json_loadb(buf_text(&r->answer), r->answer.len, 0, NULL);
	text = text_of(json_object_get(root, "error"), "message");
	if (*text == '\0')
		text = buf_text(&r->answer);
	if (*text == '<') {
		/* Of a page its title. */
		end = "<\r\n";
		text = strstr(text, "<title>");
		text = text == NULL ? "" : text + strlen("<title>");
	}
	if (*text != '\0') {
		buf_adds(out, ": ");
		log_escape(out, text, strcspn(text, end), 100);
	}
	json_decref(root);
}

/* Makes a request, notes in *p what came of it and says what that means. */
static enum verdict
perform(struct swift *s, struct swift_put *p, struct http_request *r,
    int64_t *spent_ms)
{
	int64_t started_ms = clock_ms();
	enum http_fault fault;
	const char *trans;
	size_t i;

	p->request = r->method;
	fault = http_perform(s->http, r, p->deadline_ms);
	*spent_ms += clock_ms() - started_ms;
	p->status = r->status;
	p->retry_after_ms = r->retry_after_ms;
	/* It may be there: a 503 says that fewer copies are than should be. */
	if (r->read != NULL &&
	    (fault == HTTP_NO_ANSWER || r->status / 100 == 2 ||
		r->status / 100 == 5))
		p->exists++;
	if (r->resent)
		p->exists++; /* the one before */
	buf_reset(&p->reason);
	add_answer(r, &p->reason);
	buf_reset(&p->trans);
	trans = http_answer(s->http, "X-Trans-Id");
	if (*trans == '\0')
		trans = http_answer(s->http, "X-Openstack-Request-Id");
	log_escape(&p->trans, trans, strlen(trans), 100);
	/*
	 * Without an id it is a front end's, which may have given up waiting;
	 * Envoy says that by 503, by which others say that they did not begin.
	 */
	p->unheard |=
	    r->resent ||
	    (r->read != NULL && (fault == HTTP_NO_ANSWER ||
				    (r->status / 100 == 5 && *trans == '\0')));
	if (fault == HTTP_MISCONFIGURED)
		return settle(p, SWIFT_MISCONFIGURED, VERDICT_DONE, "");
	for (i = 0; i < COUNT(meanings); i++)
		if (p->status >= meanings[i].from &&
		    p->status <= meanings[i].to &&
		    (meanings[i].method == NULL ||
			strcmp(meanings[i].method, r->method) == 0))
			return settle(p, meanings[i].outcome,
			    meanings[i].verdict, "");
	return settle(p, SWIFT_TEMPORARY, VERDICT_DONE, "");
}

static void
cut_slashes(struct buf *url)
{
	while (url->len > 0 && url->data[url->len - 1] == '/')
		buf_cut(url, url->len - 1);
}

/* Says which endpoint the catalog does not have. */
static void
add_endpoint(const struct account *a, struct buf *out)
{
	const char *project = a->project_name;

	if (project == NULL)
		project = a->project_id;
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
	struct login *login = login_of(s, p);
	const struct account *a = p->account;

	if (*token == '\0')
		return settle(p, SWIFT_TEMPORARY, VERDICT_RETRY,
		    " without a token");
	if (text_has_control(token))
		return settle(p, SWIFT_TEMPORARY, VERDICT_RETRY,
		    " with a control character in the token");
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
		return settle(p, SWIFT_MISCONFIGURED, VERDICT_DONE, "");
	}
	if (text_begins(a->authurl, "https:") &&
	    !text_begins(storage_url, "https:"))
		return settle(p, SWIFT_MISCONFIGURED, VERDICT_DONE,
		    ", but the storage URL is not https as authurl is");
	buf_reset(&login->token);
	buf_reset(&login->storage_url);
	buf_adds(&login->storage_url, storage_url);
	cut_slashes(&login->storage_url);
	buf_adds(&login->token, token);
	if (login->token.error == 0 && login->storage_url.error == 0)
		return settle(p, SWIFT_STORED, VERDICT_DONE, "");
	buf_reset(&login->token);
	return settle(p, SWIFT_TEMPORARY, VERDICT_DONE, ", too long for us");
}

/* tempauth: swift/common/middleware/tempauth.py; Ceph answers 204. */
static enum verdict
take_v1(struct swift *s, struct swift_put *p)
{
	const char *expires = http_answer(s->http, "X-Auth-Token-Expires");
	long life_s = strtol(expires, NULL, 10);
	const char *token;

	if (life_s <= 0 || life_s > TOKEN_LIFE_MAX_S)
		life_s = TOKEN_LIFE_S;
	login_of(s, p)->ends_s = time(NULL) + life_s;
	token = http_answer(s->http, "X-Auth-Token");
	if (*token == '\0')
		token = http_answer(s->http, "X-Storage-Token");
	return take_login(s, p, token, http_answer(s->http, "X-Storage-Url"));
}

/* By id, or by a name within a domain; "default" as the clients have it. */
static json_t *
named(const char *name, const char *id, const char *domain_name,
    const char *domain_id, const char *password)
{
	bool by_name = domain_id == NULL && domain_name != NULL;

	if (id != NULL)
		return json_pack("{s:s, s:s*}", "id", id, "password", password);
	return json_pack("{s:s, s:{s:s}, s:s*}", "name", name, "domain",
	    by_name ? "name" : "id",
	    by_name             ? domain_name
	    : domain_id == NULL ? "default"
				: domain_id,
	    "password", password);
}

static int
add_text(const char *text, size_t len, void *buf)
{
	buf_add(buf, text, len);
	return 0;
}

/* docs.openstack.org/api-ref/identity/v3, "Authentication and tokens" */
static void
ask_v3(const struct account *a, struct http_request *r)
{
	const char *id = a->project_id, *name = a->project_name;
	bool scoped = id != NULL || name != NULL;
	const char *credential = a->application_credential_id;
	json_t *body;

	cut_slashes(&r->url);
	if (r->url.len < 3 || strcmp(r->url.data + r->url.len - 3, "/v3") != 0)
		buf_adds(&r->url, "/v3");
	buf_adds(&r->url, "/auth/tokens");
	http_header(r, "Content-Type: application/json");
	http_header(r, "Accept: application/json");
	if (config_has_credential(a))
		/* It has a scope of its own; its name is one of a user's. */
		body = json_pack(credential == NULL
				     ? "{s:{s:{s:[s], s:{s:s, s:s, s:o}}}}"
				     : "{s:{s:{s:[s], s:{s:s, s:s}}}}",
		    "auth", "identity", "methods", "application_credential",
		    "application_credential", "secret",
		    a->application_credential_secret,
		    credential == NULL ? "name" : "id",
		    credential == NULL ? a->application_credential_name
				       : credential,
		    "user",
		    credential != NULL
			? NULL
			: named(a->user, a->user_id, a->user_domain_name,
			      a->user_domain_id, NULL));
	else
		body = json_pack(scoped ? "{s:{s:{s:[s], s:{s:o}}, s:{s:o}}}"
					: "{s:{s:{s:[s], s:{s:o}}}}",
		    "auth", "identity", "methods", "password", "password",
		    "user",
		    named(a->user, a->user_id, a->user_domain_name,
			a->user_domain_id, a->key),
		    "scope", "project",
		    !scoped ? NULL
			    : named(name, id, a->project_domain_name,
				  a->project_domain_id, NULL));
	/* A step that failed leaves nothing that could be sent. */
	if (json_dump_callback(body, add_text, &r->text, JSON_COMPACT) == -1)
		buf_fail(&r->url, ENOMEM);
	json_decref(body);
}

/* The URL of the wanted service in a catalog, borrowed from it, or "". */
static const char *
find_endpoint(const struct account *a, const json_t *catalog)
{
	const char *region = a->region_name;
	const json_t *e, *entry;
	/* "publicURL" is how the older clients spell "public". */
	size_t i, k, len = strcspn(a->endpoint_type, "U");

	json_array_foreach(catalog, i, entry)
	{
		if (strcmp(text_of(entry, "type"), a->service_type) != 0)
			continue;
		json_array_foreach(json_object_get(entry, "endpoints"), k, e)
		{
			if (text_is(a->endpoint_type, len,
				text_of(e, "interface")) &&
			    (region == NULL ||
				strcmp(text_of(e, "region"), region) == 0 ||
				strcmp(text_of(e, "region_id"), region) == 0))
				return text_of(e, "url");
		}
	}
	return "";
}

/* A token without a scope has no catalog; what is not JSON may pass. */
static enum verdict
take_v3(struct swift *s, struct swift_put *p, const struct buf *answer)
{
	json_t *root = json_loadb(buf_text(answer), answer->len, 0, NULL);
	const json_t *token = json_object_get(root, "token");
	struct tm tm = { 0 };
	enum verdict verdict;

	/* ISO 8601 in UTC, as Keystone writes it. */
	login_of(s, p)->ends_s = strptime(text_of(token, "expires_at"),
				     "%Y-%m-%dT%H:%M:%S", &tm) == NULL
				     ? time(NULL) + TOKEN_LIFE_S
				     : timegm(&tm);
	if (p->account->object_storage_url == NULL &&
	    json_unpack(root, "{s:{s?[]}}", "token", "catalog") == -1)
		verdict = settle(p, SWIFT_TEMPORARY, VERDICT_RETRY,
		    ", but not with the JSON of a token");
	else if (p->account->object_storage_url == NULL &&
		 json_object_get(token, "project") == NULL &&
		 json_object_get(token, "catalog") == NULL)
		verdict = settle(p, SWIFT_MISCONFIGURED, VERDICT_DONE,
		    " with a token of no project and so without a "
		    "catalog; set os_options_project_name or "
		    "os_options_project_id");
	else
		verdict =
		    take_login(s, p, http_answer(s->http, "X-Subject-Token"),
			find_endpoint(p->account,
			    json_object_get(token, "catalog")));
	json_decref(root);
	return verdict;
}

/* What a token was asked with: another question has another answer. */
static json_t *
question(const struct account *a)
{
	return json_pack("{s:s, s:s*, s:s*, s:s*, s:s*, s:s*, s:s*, s:s*, s:s*,"
			 " s:s*, s:s*, s:s*, s:s*, s:s*, s:s*, s:s*}",
	    "auth_version", a->auth_version == AUTH_V1 ? "1" : "3", "authurl",
	    a->authurl, "user", a->user, "user_id", a->user_id,
	    "user_domain_name", a->user_domain_name, "user_domain_id",
	    a->user_domain_id, "application_credential_id",
	    a->application_credential_id, "application_credential_name",
	    a->application_credential_name, "project_name", a->project_name,
	    "project_id", a->project_id, "project_domain_name",
	    a->project_domain_name, "project_domain_id", a->project_domain_id,
	    "region_name", a->region_name, "endpoint_type", a->endpoint_type,
	    "service_type", a->service_type, "object_storage_url",
	    a->object_storage_url);
}

/* Why an account's token_file cannot be trusted; NULL when it can. */
static const char *
distrust(int fd)
{
	struct stat st;

	if (fd == -1 || fstat(fd, &st) == -1)
		return errno == ELOOP ? "is a link" : strerror(errno);
	return !S_ISREG(st.st_mode) ? "is not a file"
	       : st.st_uid != 0 && st.st_uid != geteuid()
		   ? "is neither root's nor ours"
	       : (st.st_mode & (S_IWGRP | S_IWOTH)) != 0
		   ? "can be written to by others"
	       : st.st_size > TOKEN_FILE_MAX ? "is too large"
					     : NULL;
}

/* Takes the token of an open file; what is wrong with it, or NULL. */
static const char *
read_token(struct swift *s, struct swift_put *p, int fd)
{
	json_t *asked = question(p->account);
	json_t *file = json_loadfd(fd, 0, NULL);
	const char *reason, *token = text_of(file, "token");

	reason = file == NULL ? "is not JSON"
		 : !json_equal(asked, json_object_get(file, "asked_with"))
		     ? "was not asked with the same account"
		 : json_integer_value(json_object_get(file, "ends")) <
			 time(NULL) + TOKEN_LEFT_S
		     ? "holds a token that has ended"
		 : *token == '\0' ? "holds no token"
				  : NULL;
	if (reason == NULL)
		(void)take_login(s, p, token, text_of(file, "storage_url"));
	if (reason == NULL && p->outcome != SWIFT_STORED)
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
	fd = open(p->account->token_file,
	    O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	reason = distrust(fd);
	if (reason == NULL)
		reason = read_token(s, p, fd);
	if (fd != -1)
		(void)close(fd);
	login->from_file = reason == NULL;
	if (reason != NULL)
		warn_token_file(p, reason);
	return reason == NULL;
}

/* Says who was refused, and where Keystone looked for want of a domain. */
static void
add_refused(const struct account *a, struct buf *out)
{
	bool credential = config_has_credential(a);
	const char *who = a->user_id != NULL ? a->user_id : a->user;

	if (credential && a->application_credential_id != NULL)
		who = a->application_credential_id;
	buf_addf(out, "; user %s is refused", who);
	if (a->auth_version == AUTH_KEYSTONE &&
	    ((who == a->user && a->user_domain_name == NULL &&
		 a->user_domain_id == NULL) ||
		(!credential && a->project_id == NULL &&
		    a->project_name != NULL && a->project_domain_name == NULL &&
		    a->project_domain_id == NULL)))
		buf_adds(out, "; a domain that is not set is default "
			      "(os_options_user_domain_name or "
			      "os_options_project_domain_name)");
}

static enum verdict
log_in(struct swift *s, struct swift_put *p)
{
	const struct account *a = p->account;
	bool v1 = a->auth_version == AUTH_V1;
	struct http_request r;
	enum verdict verdict;

	buf_reset(&p->reason);
	if (a->auth_version == AUTH_TEMPURL || login_of(s, p)->token.len > 0 ||
	    use_token_file(s, p))
		return settle(p, SWIFT_STORED, VERDICT_DONE, "");
	http_request_init(&r, &a->http, v1 ? "GET" : "POST");
	buf_adds(&r.url, a->authurl);
	if (v1) {
		http_header(&r, "X-Auth-User: %s", a->user);
		http_header(&r, "X-Auth-Key: %s", a->key);
	} else {
		ask_v3(a, &r);
	}
	verdict = perform(s, p, &r, &p->auth_ms);
	if (p->outcome == SWIFT_STORED)
		verdict = v1 ? take_v1(s, p) : take_v3(s, p, &r.answer);
	http_request_free(&r);
	if (p->status == 401 || p->status == 403)
		add_refused(a, &p->reason);
	return verdict;
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

/* The address of the object, or of its container, and who we are. */
static void
address(struct swift *s, const struct swift_put *p, struct http_request *r,
    bool container)
{
	const struct account *a = p->account;
	const struct login *login = login_of(s, p);
	BUF(path, URL_MAX);

	buf_addf(&path, "/%s", a->container);
	if (!container)
		buf_addf(&path, "/%s%s", a->prefix, buf_text(&p->name));
	buf_adds(&r->url, a->auth_version == AUTH_TEMPURL
			      ? a->storage_url
			      : buf_text(&login->storage_url));
	cut_slashes(&r->url);
	buf_encode(&r->url, buf_text(&path), path.len, PATH_ESCAPED, '%');
	if (a->auth_version == AUTH_TEMPURL)
		sign(a, r, buf_text(&path));
	else
		http_header(r, "X-Auth-Token: %s", buf_text(&login->token));
	buf_fail(&r->url, path.error);
	buf_fail(&r->url, p->name.error);
}

/* What a PUT sends. */
static void
add_content(const struct swift_put *p, struct http_request *r)
{
	const char *line;
	size_t len;

	r->read = message_read;
	r->body = p->message;
	r->size = p->message->size;
	http_header(r, "Content-Type: %s", p->account->content_type);
	http_header(r, "ETag: %s", p->message->md5_hex);
	http_header(r, "If-None-Match: *");
	if (p->account->delete_after_s > 0)
		http_header(r, "X-Delete-After: %lld",
		    (long long)p->account->delete_after_s);
	for (line = p->plain ? "" : buf_text(&p->metadata); *line != '\0';
	     line += len + 1) {
		len = strcspn(line, "\n");
		http_header(r, "%.*s", (int)len, line);
	}
}

/* A request for the object, or for its container, once logged in. */
static enum verdict
request(struct swift *s, struct swift_put *p, const char *method,
    bool container)
{
	enum verdict verdict = log_in(s, p);
	struct http_request r;

	if (p->outcome != SWIFT_STORED)
		return verdict;
	http_request_init(&r, &p->account->http, method);
	address(s, p, &r, container);
	if (strcmp(method, "PUT") == 0)
		add_content(p, &r);
	verdict = perform(s, p, &r, &p->put_ms);
	if (p->status == 404 && (container || r.read != NULL))
		buf_addf(&p->reason, "; container %s does not exist",
		    p->account->container);
	if (p->status == 413 && p->trans.len == 0)
		buf_adds(&p->reason,
		    "; that is the limit of a server in front of Swift "
		    "(nginx: client_max_body_size)");
	http_request_free(&r);
	return verdict;
}

void
swift_head(struct swift *s, struct swift_put *p, bool container)
{
	(void)request(s, p, "HEAD", container);
}

bool
swift_overwrites(struct swift *s, struct swift_put *p)
{
	(void)request(s, p, "PUT", false);
	return p->outcome == SWIFT_STORED;
}

/* As front ends change it: in quotes, W/ for weak, -gzip for compressed. */
static bool
is_our_etag(const struct swift *s, const struct swift_put *p)
{
	const char *etag = http_answer(s->http, "ETag");

	etag += text_begins(etag, "W/") ? 2 : 0;
	etag += *etag == '"' ? 1 : 0;
	return text_begins(etag, p->message->md5_hex) &&
	       strcspn(etag + strlen(p->message->md5_hex), "\"-") == 0;
}

/* The length counts where it is the content's own. */
bool
swift_is_ours(const struct swift *s, const struct swift_put *p)
{
	const char *length = http_answer(s->http, "Content-Length");
	char *end;

	if (p->status != 200 || !is_our_etag(s, p))
		return false;
	if (*http_answer(s->http, "Transfer-Encoding") != '\0' ||
	    *http_answer(s->http, "Content-Encoding") != '\0')
		return true;
	return *length != '\0' &&
	       strtoll(length, &end, 10) == p->message->size && *end == '\0';
}

/*
 * One PUT.  Only our own ETag says that our octets are there; and where there
 * is an object, an earlier try of ours may have arrived although its answer
 * was lost.
 */
static enum verdict
try_store(struct swift *s, struct swift_put *p)
{
	enum verdict verdict = request(s, p, "PUT", false);

	if (p->outcome == SWIFT_STORED && !is_our_etag(s, p))
		return settle(p, SWIFT_TEMPORARY, VERDICT_RENAME,
		    ", but not our ETag");
	if (verdict != VERDICT_TAKEN)
		return verdict;
	verdict = request(s, p, "HEAD", false);
	if (p->outcome == SWIFT_STORED && swift_is_ours(s, p)) {
		if (p->exists == 0)
			p->exists = 1;
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
	struct login *login = login_of(s, p);
	bool later = verdict == VERDICT_RETRY || verdict == VERDICT_WAIT;
	int wait_ms = later ? pause_ms(p) : 0;

	if (verdict == VERDICT_LOGIN && !p->fresh && login->token.len > 0) {
		/* Only a token that was here may have ended since. */
		p->fresh = true;
		buf_reset(&login->token);
		if (login->from_file)
			warn_token_file(p,
			    "holds a token that was refused (401)");
		login->from_file = false;
	} else if (verdict == VERDICT_PLAIN && !p->plain) {
		p->plain = true;
		buf_adds(&p->reason, ", tried once more without metadata");
		log_try(p);
	} else if ((later || verdict == VERDICT_RENAME) && wait_ms != -1 &&
		   (verdict == VERDICT_WAIT || p->retries-- > 0)) {
		log_try(p);
		p->tries++;
	} else {
		return false;
	}
	/* A hang-up ends the wait: nobody hears what comes of another try. */
	if (poll(&client, 1, wait_ms) == 0)
		return true;
	buf_reset(&p->reason);
	(void)settle(p, SWIFT_TEMPORARY, VERDICT_DONE, "the client went away");
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
		verdict = request(s, &d, "DELETE", false);
		d.deadline_ms = deadline_ms;
	} while (again(s, &d, verdict));
	*status = d.status;
	buf_adds(reason, buf_text(&d.reason));
	/* Who may not delete may look, by the signature of a PUT as well. */
	gone = d.outcome == SWIFT_STORED ||
	       request(s, &d, "HEAD", false) == VERDICT_MISSING;
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
	bool gone;

	if (p->exists == 0)
		return;
	buf_adds(&reason, "possible duplicate: not deleted, ");
	gone = swift_delete(s, p, deadline_ms, &reason, &status) == 0;
	/* What got no answer may arrive now, unless it is what was deleted. */
	gone &= !p->unheard || (status == 204 && p->exists == 1);
	p->exists = 0;
	p->unheard = false;
	if (gone)
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

/* Replaces the token_file by one that holds this; errno where it cannot. */
static int
replace_token_file(const struct account *a, const json_t *file)
{
	BUF(path, PATH_MAX);
	int error, fd;

	buf_addf(&path, "%s.XXXXXX", a->token_file);
	if (path.error != 0 || file == NULL)
		return path.error != 0 ? path.error : ENOMEM;
	fd = mkostemp(path.data, O_CLOEXEC); /* with mode 0600 */
	if (fd == -1)
		return errno;
	errno = EIO;
	error = json_dumpfd(file, fd, JSON_INDENT(1)) == 0 && fsync(fd) == 0 &&
			rename(path.data, a->token_file) == 0
		    ? 0
		    : errno;
	(void)close(fd);
	if (error != 0)
		(void)unlink(path.data);
	return error;
}

int64_t
swift_write_token(struct swift *s, struct swift_put *p)
{
	struct login *login = login_of(s, p);
	enum verdict verdict;
	json_t *file;
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
	error = replace_token_file(p->account, file);
	json_decref(file);
	if (error == 0)
		return login->ends_s;
	buf_reset(&p->reason);
	(void)settle(p, SWIFT_MISCONFIGURED, VERDICT_DONE, strerror(error));
	return -1;
}

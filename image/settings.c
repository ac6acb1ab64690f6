/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Each variable by itself: what it must look like.  Whether they fit each
 * other is agree.c's question.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <jansson.h>

#include "address.h"
#include "agree.h"
#include "settings.h"

#include "banned.h"

enum {
	SIZE_MIN = 1024,       /* octets; below, no mail fits */
	PROCESSES_MAX = 10000, /* more than a machine of this kind carries */
	DRAIN_MAX = 3600       /* seconds; longer than any session lasts */
};

/* Swift's max_file_size less what swiftdrop adds to the limit. */
#define SIZE_MAX_OBJECT (5368709122LL - 65536)

/* Parameters that are the image's own, or have a variable of their own. */
static const struct {
	const char *parameter;
	const char
	    *instead; /* NULL: the image cannot work with another value */
} reserved[] = {
	{ "myhostname", "MYHOSTNAME" },
	{ "mydomain", "MYDOMAIN" },
	{ "message_size_limit", "MESSAGE_SIZE_LIMIT" },
	{ "smtpd_upstream_proxy_protocol", "UPSTREAM_PROXY_PROTOCOL" },
	{ "smtpd_tls_cert_file", "TLS_CERT_FILE" },
	{ "smtpd_tls_key_file", "TLS_KEY_FILE" },
	{ "smtpd_tls_chain_files", "TLS_CERT_FILE" },
	{ "2bounce_notice_recipient", "POSTMASTER" },
	{ "command_directory", NULL },
	{ "config_directory", NULL },
	{ "daemon_directory", NULL },
	{ "data_directory", NULL },
	{ "default_privs", NULL },
	{ "mail_owner", NULL },
	{ "maillog_file", NULL },
	{ "queue_directory", NULL },
	{ "setgid_group", NULL },
	{ "swiftdrop_filter", NULL },
};

static void load_host(struct settings *s, struct buf *faults);
static const char *check_host(const char *name);
static const char *default_domain(const char *hostname);
static void load_words(struct settings *s, struct buf *faults);
static bool load_word(struct settings *s, enum variable v, const char *yes,
    const char *no, struct buf *faults);
static void load_numbers(struct settings *s, struct buf *faults);
static int64_t load_number(struct settings *s, enum variable v,
    int64_t standard, const int64_t limits[2], struct buf *faults);
static void load_tls(struct settings *s, struct buf *faults);
static int load_recipients(struct settings *s, struct buf *faults);
static int add_recipient(struct settings *s, const char *text,
    struct buf *faults);
static json_t *load_json(const char *text, enum variable v, struct buf *faults);
static int load_forwards(struct settings *s, struct buf *faults);
static int add_forward(struct settings *s, const char *name,
    const json_t *value, struct buf *faults);
static int add_target(struct forward *f, const char *name, const json_t *value,
    struct buf *faults);
static char *address_of(const char *text, bool wildcard, const char **reason);
static int load_postmaster(struct settings *s, struct buf *faults);
static void load_parameters(struct settings *s, const char *parameters,
    struct buf *faults);
static const char *reserved_for(const char *parameter, const char **instead);
static bool is_known(const char *parameters, const char *name);
static void free_forwards(struct forward *forwards, size_t n);

int
settings_load(struct settings *s, char *const *environment,
    environment_read_fn *read_file, const char *parameters, struct buf *faults,
    struct buf *warnings)
{
	*s = (struct settings){ .proxy = false };
	buf_init(&s->config.warnings, 1);
	if (environment_load(&s->environment, environment, read_file, faults) ==
	    -1)
		return -1;
	load_host(s, faults);
	load_words(s, faults);
	load_numbers(s, faults);
	load_tls(s, faults);
	load_parameters(s, parameters, faults);
	if (load_recipients(s, faults) == -1 ||
	    load_forwards(s, faults) == -1 || load_postmaster(s, faults) == -1)
		return -1;
	return agree(s, faults, warnings);
}

static void
load_host(struct settings *s, struct buf *faults)
{
	const char *reason;

	s->myhostname = s->environment.values[VAR_MYHOSTNAME];
	s->mydomain = s->environment.values[VAR_MYDOMAIN];
	if (s->myhostname == NULL) {
		environment_fault(faults, environment_name(VAR_MYHOSTNAME),
		    "is required: the name of this mail server, "
		    "as mail.example.org");
		s->myhostname = "localhost.invalid";
	} else if ((reason = check_host(s->myhostname)) != NULL) {
		environment_fault(faults, environment_name(VAR_MYHOSTNAME),
		    "\"%s\" %s", s->myhostname, reason);
	}
	if (s->mydomain == NULL)
		s->mydomain = default_domain(s->myhostname);
	else if ((reason = check_host(s->mydomain)) != NULL)
		environment_fault(faults, environment_name(VAR_MYDOMAIN),
		    "\"%s\" %s", s->mydomain, reason);
}

/* What is wrong with a host's or domain's name (RFC 1123 2.1), or NULL. */
static const char *
check_host(const char *name)
{
	struct buf domain;
	size_t label, n;
	const char *reason;

	buf_init(&domain, ADDRESS_MAX);
	reason = NULL;
	if (strlen(name) > 253 || *name == '[' || strchr(name, '_') != NULL ||
	    name[strspn(name, "0123456789.")] == '\0' ||
	    address_domain(&domain, name, strlen(name)) == -1)
		reason = "is not a host name";
	for (n = 0; reason == NULL && name[n] != '\0';
	     n += label + (name[n + label] != '\0')) {
		label = strcspn(name + n, ".");
		if (label > 63 || name[n] == '-' ||
		    (label > 0 && name[n + label - 1] == '-'))
			reason = "is not a host name";
	}
	if (reason == NULL && name[strlen(name) - 1] == '.')
		reason = "must not end with a dot";
	buf_free(&domain);
	return reason;
}

/* The name less its first label, when two labels or more remain. */
static const char *
default_domain(const char *hostname)
{
	const char *rest;

	rest = strchr(hostname, '.');
	if (rest == NULL || strchr(rest + 1, '.') == NULL)
		return hostname;
	return rest + 1;
}

static void
load_words(struct settings *s, struct buf *faults)
{
	s->proxy =
	    load_word(s, VAR_UPSTREAM_PROXY_PROTOCOL, "haproxy", NULL, faults);
	s->debug = load_word(s, VAR_DEBUG, "yes", "no", faults);
	s->check_is_fatal =
	    !load_word(s, VAR_STARTUP_CHECK, "warn", "fatal", faults);
}

/* Whether the variable is the word yes; not set is the same as no. */
static bool
load_word(struct settings *s, enum variable v, const char *yes, const char *no,
    struct buf *faults)
{
	const char *value;

	value = s->environment.values[v];
	if (value == NULL || (no != NULL && strcmp(value, no) == 0))
		return false;
	if (strcmp(value, yes) == 0)
		return true;
	environment_fault(faults, environment_name(v), "\"%s\" is not %s or %s",
	    value, yes, no == NULL ? "empty" : no);
	return false;
}

static void
load_numbers(struct settings *s, struct buf *faults)
{
	static const int64_t size[] = { SIZE_MIN, SIZE_MAX_OBJECT };
	static const int64_t processes[] = { 1, PROCESSES_MAX };
	static const int64_t drain[] = { 0, DRAIN_MAX };

	s->message_size_limit =
	    load_number(s, VAR_MESSAGE_SIZE_LIMIT, 52428800, size, faults);
	s->max_processes =
	    load_number(s, VAR_MAX_PROCESSES, 100, processes, faults);
	/* A little above swiftdrop's own deadline of 90 s. */
	s->drain_timeout_s =
	    load_number(s, VAR_DRAIN_TIMEOUT, 100, drain, faults);
}

static int64_t
load_number(struct settings *s, enum variable v, int64_t standard,
    const int64_t limits[2], struct buf *faults)
{
	const char *value;
	char *end;
	long long number;

	value = s->environment.values[v];
	if (value == NULL)
		return standard;
	errno = 0;
	number = strtoll(value, &end, 10);
	if (strspn(value, "0123456789") == strlen(value) && errno == 0 &&
	    number >= limits[0] && number <= limits[1])
		return number;
	environment_fault(faults, environment_name(v),
	    "\"%s\" is not a number from %lld to %lld", value,
	    (long long)limits[0], (long long)limits[1]);
	return standard;
}

static void
load_tls(struct settings *s, struct buf *faults)
{
	s->tls_cert_file = s->environment.values[VAR_TLS_CERT_FILE];
	s->tls_key_file = s->environment.values[VAR_TLS_KEY_FILE];
	if ((s->tls_cert_file == NULL) == (s->tls_key_file == NULL))
		return;
	environment_fault(faults,
	    environment_name(s->tls_cert_file == NULL ? VAR_TLS_CERT_FILE
						      : VAR_TLS_KEY_FILE),
	    "is missing: certificate and key come together");
}

/* RECIPIENTS: a JSON list of addresses and "@domain". */
static int
load_recipients(struct settings *s, struct buf *faults)
{
	const char *text;
	json_t *list, *item;
	size_t i;
	int result;

	text = s->environment.values[VAR_RECIPIENTS];
	if (text == NULL)
		return 0;
	list = load_json(text, VAR_RECIPIENTS, faults);
	if (list != NULL && !json_is_array(list))
		environment_fault(faults, environment_name(VAR_RECIPIENTS),
		    "is not a JSON list, as [\"a@example.org\"]");
	result = 0;
	for (i = 0; result == 0 && i < json_array_size(list); i++) {
		item = json_array_get(list, i);
		if (json_is_string(item))
			result =
			    add_recipient(s, json_string_value(item), faults);
		else
			environment_fault(faults,
			    environment_name(VAR_RECIPIENTS),
			    "element %zu is not a text", i + 1);
	}
	json_decref(list);
	return result;
}

static int
add_recipient(struct settings *s, const char *text, struct buf *faults)
{
	const char *reason;
	char *address;
	int result;

	address = address_of(text, true, &reason);
	if (address == NULL) {
		if (errno == ENOMEM)
			return -1;
		environment_fault(faults, environment_name(VAR_RECIPIENTS),
		    "\"%s\" %s", text, reason);
		return 0;
	}
	result = 0;
	if (list_has(&s->recipients, address))
		environment_fault(faults, environment_name(VAR_RECIPIENTS),
		    "\"%s\" is there twice", text);
	else
		result = list_add(&s->recipients, address, strlen(address));
	free(address);
	return result;
}

static json_t *
load_json(const char *text, enum variable v, struct buf *faults)
{
	json_error_t error;
	json_t *json;

	json = json_loads(text, JSON_REJECT_DUPLICATES, &error);
	if (json == NULL)
		environment_fault(faults, environment_name(v),
		    "is not JSON: %s (line %d, column %d)", error.text,
		    error.line, error.column);
	return json;
}

/* FORWARDS: a JSON object, address to address or list of addresses. */
static int
load_forwards(struct settings *s, struct buf *faults)
{
	const char *text, *name;
	json_t *object, *value;
	int result;

	text = s->environment.values[VAR_FORWARDS];
	if (text == NULL)
		return 0;
	object = load_json(text, VAR_FORWARDS, faults);
	if (object != NULL && !json_is_object(object)) {
		environment_fault(faults, environment_name(VAR_FORWARDS),
		    "is not a JSON object, as "
		    "{\"a@example.org\": \"b@example.net\"}");
		json_decref(object);
		return 0;
	}
	result = 0;
	json_object_foreach(object, name, value)
	{
		result = add_forward(s, name, value, faults);
		if (result == -1)
			break;
	}
	json_decref(object);
	return result;
}

static int
add_forward(struct settings *s, const char *name, const json_t *value,
    struct buf *faults)
{
	struct forward *forwards, *f;
	const char *reason;
	size_t i;

	forwards =
	    reallocarray(s->forwards, s->nforwards + 1, sizeof(*forwards));
	if (forwards == NULL)
		return -1;
	s->forwards = forwards;
	f = &forwards[s->nforwards];
	*f = (struct forward){ address_of(name, false, &reason), { NULL, 0 } };
	if (f->address == NULL) {
		if (errno == ENOMEM)
			return -1;
		environment_fault(faults, environment_name(VAR_FORWARDS),
		    "\"%s\" %s", name, reason);
		return 0;
	}
	s->nforwards++;
	for (i = 0; i + 1 < s->nforwards; i++)
		if (strcmp(forwards[i].address, f->address) == 0)
			environment_fault(faults,
			    environment_name(VAR_FORWARDS),
			    "\"%s\" is there twice", name);
	if (!json_is_array(value))
		return add_target(f, name, value, faults);
	if (json_array_size(value) == 0)
		environment_fault(faults, environment_name(VAR_FORWARDS),
		    "\"%s\" is forwarded to nobody", name);
	for (i = 0; i < json_array_size(value); i++)
		if (add_target(f, name, json_array_get(value, i), faults) == -1)
			return -1;
	return 0;
}

static int
add_target(struct forward *f, const char *name, const json_t *value,
    struct buf *faults)
{
	const char *reason;
	char *address;
	int result;

	if (!json_is_string(value)) {
		environment_fault(faults, environment_name(VAR_FORWARDS),
		    "\"%s\" is forwarded to something that is not a text",
		    name);
		return 0;
	}
	address = address_of(json_string_value(value), false, &reason);
	if (address == NULL) {
		if (errno == ENOMEM)
			return -1;
		environment_fault(faults, environment_name(VAR_FORWARDS),
		    "\"%s\" is forwarded to \"%s\", which %s", name,
		    json_string_value(value), reason);
		return 0;
	}
	result = list_add_once(&f->targets, address, strlen(address));
	free(address);
	return result;
}

/*
 * The form for comparison of an address that can stand in a Postfix table as
 * it is; with wildcard, of "@domain" too.  The caller frees it.  Returns NULL
 * with errno ENOMEM, or EINVAL and *reason.
 */
static char *
address_of(const char *text, bool wildcard, const char **reason)
{
	struct address a;
	struct buf key;
	const char *local;
	char *result;
	int parsed;

	address_init(&a);
	buf_init(&key, (size_t)2 * ADDRESS_MAX);
	*reason = "is not an address, as user@example.org";
	if (wildcard && text[0] == '@') {
		parsed = address_domain(&a.domain, text + 1, strlen(text + 1));
		a.has_domain = true;
	} else {
		parsed = address_parse(&a, text, strlen(text));
	}
	local = buf_text(&a.local);
	if (parsed == 0 && !a.has_domain) {
		parsed = -1;
	} else if (parsed == 0 && buf_text(&a.domain)[0] == '[') {
		*reason = "has an address literal for a domain";
		parsed = -1;
	} else if (parsed == 0 &&
		   (strpbrk(local, " \t,:;<>()[]\\\"@|/!%") != NULL ||
		       local[0] == '-')) {
		/* Postfix's tables and ways to route read more into these. */
		*reason = "has a local part with special characters";
		parsed = -1;
	}
	if (parsed == -1 && errno != ENOMEM)
		errno = EINVAL;
	if (parsed == 0)
		parsed = address_key(&a, "", 0, &key);
	result = parsed == 0 ? strdup(buf_text(&key)) : NULL;
	address_free(&a);
	buf_free(&key);
	return result;
}

static int
load_postmaster(struct settings *s, struct buf *faults)
{
	const char *reason, *text;

	text = s->environment.values[VAR_POSTMASTER];
	if (text == NULL)
		return 0;
	s->postmaster = address_of(text, false, &reason);
	if (s->postmaster != NULL)
		return 0;
	if (errno == ENOMEM)
		return -1;
	environment_fault(faults, environment_name(VAR_POSTMASTER), "\"%s\" %s",
	    text, reason);
	return 0;
}

/* POSTFIX_parameter=value */
static void
load_parameters(struct settings *s, const char *parameters, struct buf *faults)
{
	const struct pair *pair;
	const char *instead;
	char name[256];
	size_t i;

	for (i = 0; i < s->environment.postfix.n; i++) {
		pair = &s->environment.postfix.items[i];
		(void)snprintf(name, sizeof(name), "POSTFIX_%s", pair->name);
		if (reserved_for(pair->name, &instead) != NULL)
			environment_fault(faults, name, "%s%s",
			    instead == NULL ? "is set by the image"
					    : "has its own variable, ",
			    instead == NULL ? "" : instead);
		else if (!is_known(parameters, pair->name))
			environment_fault(faults, name,
			    "is not a parameter of this Postfix");
		if (strpbrk(pair->value, "\r\n") != NULL)
			environment_fault(faults, name,
			    "must be a single line");
	}
}

static const char *
reserved_for(const char *parameter, const char **instead)
{
	size_t i;

	for (i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++) {
		if (strcmp(reserved[i].parameter, parameter) != 0)
			continue;
		*instead = reserved[i].instead;
		return parameter;
	}
	return NULL;
}

/* Whether name is a whole line of parameters. */
static bool
is_known(const char *parameters, const char *name)
{
	const char *line;
	size_t len;

	if (*parameters == '\0')
		return true;
	len = strlen(name);
	for (line = parameters; *line != '\0';
	     line += strcspn(line, "\n") + (line[strcspn(line, "\n")] != '\0'))
		if (strcspn(line, "\n") == len && memcmp(line, name, len) == 0)
			return true;
	return false;
}

const char *
settings_parameter(const struct settings *s, const char *name)
{
	size_t i;

	for (i = 0; i < s->environment.postfix.n; i++)
		if (strcmp(s->environment.postfix.items[i].name, name) == 0)
			return s->environment.postfix.items[i].value;
	return NULL;
}

void
settings_free(struct settings *s)
{
	environment_free(&s->environment);
	free(s->postmaster);
	list_free(&s->recipients);
	free_forwards(s->forwards, s->nforwards);
	free_forwards(s->postmasters, s->npostmasters);
	list_free(&s->domains);
	list_free(&s->smtp);
	config_free(&s->config);
	*s = (struct settings){ .proxy = false };
}

static void
free_forwards(struct forward *forwards, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		free(forwards[i].address);
		list_free(&forwards[i].targets);
	}
	free(forwards);
}

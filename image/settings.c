/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Each variable by itself: what it must look like.  Whether they fit each
 * other is agree.c's question.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <jansson.h>
#include <unicode/uidna.h>

#include "address.h"
#include "settings.h"
#include "text.h"

#include "banned.h"

enum {
	TARGETS_MAX = 1024 * 1024 /* octets; no variable is larger */
};

/* For a name that is at fault. */
#define NO_HOST "localhost.invalid"

/* Swift's max_file_size less what swiftdrop adds to the limit. */
#define SIZE_MAX_OBJECT (5368709122LL - 65536)

/*
 * Parameters and keys of [SMTP] that have a variable of their own, or (NULL)
 * that the image cannot work without.
 */
static const struct {
	const char *name;
	const char *instead;
} reserved[] = {
	{ "POSTFIX_myhostname", "MYHOSTNAME" },
	{ "POSTFIX_mydomain", "MYDOMAIN" },
	{ "POSTFIX_message_size_limit", "MESSAGE_SIZE_LIMIT" },
	{ "POSTFIX_smtpd_upstream_proxy_protocol", "UPSTREAM_PROXY_PROTOCOL" },
	{ "POSTFIX_smtpd_tls_cert_file", "TLS_CERT_FILE" },
	{ "POSTFIX_smtpd_tls_key_file", "TLS_KEY_FILE" },
	{ "POSTFIX_smtpd_tls_chain_files", "TLS_CERT_FILE" },
	{ "POSTFIX_2bounce_notice_recipient", "POSTMASTER" },
	{ "POSTFIX_command_directory", NULL },
	{ "POSTFIX_config_directory", NULL },
	{ "POSTFIX_daemon_directory", NULL },
	{ "POSTFIX_data_directory", NULL },
	{ "POSTFIX_default_privs", NULL },
	{ "POSTFIX_mail_owner", NULL },
	{ "POSTFIX_maillog_file", NULL },
	{ "POSTFIX_queue_directory", NULL },
	{ "POSTFIX_setgid_group", NULL },
	{ "POSTFIX_swiftdrop_filter", NULL },
	{ "SWIFTDROP_SMTP_HOSTNAME", "MYHOSTNAME" },
	{ "SWIFTDROP_SMTP_ORIGIN", "MYDOMAIN" },
	{ "SWIFTDROP_SMTP_MESSAGE_SIZE_LIMIT", "MESSAGE_SIZE_LIMIT" },
	{ "SWIFTDROP_SMTP_RECIPIENT_DELIMITER", "POSTFIX_recipient_delimiter" },
	{ "SWIFTDROP_SMTP_REINJECT", NULL },
	{ "SWIFTDROP_SMTP_ALLOW_REMOTE", NULL },
	{ "SWIFTDROP_SMTP_SPOOL_DIRECTORY", NULL },
	{ "SWIFTDROP_SMTP_LOG", NULL },
};

/* What is wrong with a host's or domain's name (RFC 1123 2.1), or NULL. */
static const char *
check_host(const char *name)
{
	static const char reason[] = "is not a host name";
	BUF(domain, ADDRESS_MAX);
	size_t label, n;

	if (strlen(name) > 253 || *name == '[' || strchr(name, '_') != NULL ||
	    name[strspn(name, "0123456789.")] == '\0' ||
	    !address_domain(&domain, name, strlen(name)))
		return reason;
	for (n = 0; name[n] != '\0'; n += label + (name[n + label] != '\0')) {
		label = strcspn(name + n, ".");
		if (label > 63 || name[n] == '-' ||
		    (label > 0 && name[n + label - 1] == '-'))
			return reason;
	}
	return name[n - 1] == '.' ? "must not end with a dot" : NULL;
}

/* Says that text is reason, the variable's fault, unless that is NULL. */
static void
refuse(const char *name, const char *text, const char *reason,
    struct buf *faults)
{
	if (reason != NULL)
		environment_fault(faults, name, "\"%s\" %s", text, reason);
}

/* The name that a variable gives; standard where it gives none. */
static const char *
load_name(const struct settings *s, const char *name, const char *standard,
    struct buf *faults)
{
	const char *reason, *value;

	value = environment_get(&s->environment, name);
	if (value == NULL)
		return standard;
	reason = check_host(value);
	refuse(name, value, reason, faults);
	return reason == NULL ? value : NO_HOST;
}

static void
load_host(struct settings *s, struct buf *faults)
{
	const char *domain;

	s->myhostname = load_name(s, "MYHOSTNAME", NULL, faults);
	if (s->myhostname == NULL) {
		environment_fault(faults, "MYHOSTNAME",
		    "is required: the name of this mail server, "
		    "as mail.example.org");
		s->myhostname = NO_HOST;
	}
	/* The name less its first label, when two labels or more remain. */
	domain = strchr(s->myhostname, '.');
	if (domain == NULL || strchr(domain + 1, '.') == NULL)
		domain = s->myhostname;
	else
		domain++;
	s->mydomain = load_name(s, "MYDOMAIN", domain, faults);
}

/* Whether the variable is the word yes; not set is the same as no. */
static bool
load_word(const struct settings *s, const char *name, const char *yes,
    const char *no, struct buf *faults)
{
	const char *value;

	value = environment_get(&s->environment, name);
	if (value == NULL || (no != NULL && strcmp(value, no) == 0))
		return false;
	if (strcmp(value, yes) == 0)
		return true;
	environment_fault(faults, name, "\"%s\" is not %s or %s", value, yes,
	    no == NULL ? "empty" : no);
	return false;
}

static int64_t
load_number(const struct settings *s, const char *name, int64_t standard,
    int64_t min, int64_t max, struct buf *faults)
{
	const char *value;
	long long number;

	value = environment_get(&s->environment, name);
	if (value == NULL)
		return standard;
	errno = 0;
	number = strtoll(value, NULL, 10);
	if (strspn(value, "0123456789") == strlen(value) && errno == 0 &&
	    number >= min && number <= max)
		return number;
	environment_fault(faults, name,
	    "\"%s\" is not a number from %lld to %lld", value, (long long)min,
	    (long long)max);
	return standard;
}

static void
load_values(struct settings *s, struct buf *faults)
{
	s->proxy =
	    load_word(s, "UPSTREAM_PROXY_PROTOCOL", "haproxy", NULL, faults);
	s->debug = load_word(s, "DEBUG", "yes", "no", faults);
	s->json = load_word(s, "LOG_FORMAT", "json", "text", faults);
	s->check_is_fatal =
	    !load_word(s, "STARTUP_CHECK", "warn", "fatal", faults);
	/* Below that no mail fits. */
	s->message_size_limit = load_number(s, "MESSAGE_SIZE_LIMIT", 52428800,
	    1024, SIZE_MAX_OBJECT, faults);
	s->max_processes =
	    load_number(s, "MAX_PROCESSES", 100, 1, 10000, faults);
	s->max_servers = s->max_processes > 100 ? s->max_processes : 100;
	/* A little above swiftdrop's own deadline of 90 s. */
	s->drain_timeout_s =
	    load_number(s, "DRAIN_TIMEOUT", 100, 0, 3600, faults);
	s->login_interval_s =
	    load_number(s, "LOGIN_INTERVAL", 600, 0, 3600, faults);
	s->tls_cert_file = environment_get(&s->environment, "TLS_CERT_FILE");
	s->tls_key_file = environment_get(&s->environment, "TLS_KEY_FILE");
	if ((s->tls_cert_file == NULL) != (s->tls_key_file == NULL))
		environment_fault(faults,
		    s->tls_cert_file == NULL ? "TLS_CERT_FILE" : "TLS_KEY_FILE",
		    "is missing: certificate and key come together");
}

/*
 * Appends the form for comparison of an address that can stand in a Postfix
 * table as it is; with wildcard, of "@domain" too.  Returns NULL, or what is
 * wrong with it.
 */
static const char *
add_key(const char *text, bool wildcard, struct buf *key)
{
	ADDRESS(a);
	const char *local;
	bool parsed;

	a.has_domain = wildcard && *text == '@';
	if (a.has_domain)
		parsed = address_domain(&a.domain, text + 1, strlen(text + 1));
	else
		parsed = address_parse(&a, text, strlen(text));
	local = buf_text(&a.local);
	if (!parsed || !a.has_domain)
		return "is not an address, as user@example.org";
	if (buf_text(&a.domain)[0] == '[')
		return "has an address literal for a domain";
	/* Postfix's tables and ways to route read more into these. */
	if (strpbrk(local, " \t,:;<>()[]\\\"@|/!%") != NULL ||
	    local[0] == '-' || local[0] == '#')
		return "has a local part with special characters";
	if (!address_key(&a, "", 0, key))
		return "needs the locale C.UTF-8, which is missing here";
	return key->error == 0 ? NULL : strerror(key->error);
}

/*
 * The caller's to give back; NULL where the variable is none, or not JSON of
 * that type, which looks like example.
 */
static json_t *
load_json(struct settings *s, const char *name, json_type type,
    const char *example, struct buf *faults)
{
	json_error_t error;
	const char *text;
	json_t *json;

	text = environment_get(&s->environment, name);
	if (text == NULL)
		return NULL;
	json = json_loads(text, JSON_REJECT_DUPLICATES, &error);
	s->is_partial = s->is_partial || json == NULL;
	if (json == NULL)
		environment_fault(faults, name,
		    "is not JSON: %s (line %d, column %d)", error.text,
		    error.line, error.column);
	else if (json_typeof(json) != type)
		environment_fault(faults, name, "is not a JSON %s", example);
	return json;
}

/* RECIPIENTS: a JSON list of addresses and "@domain". */
static void
load_recipients(struct settings *s, struct buf *faults)
{
	json_auto_t *list = load_json(s, "RECIPIENTS", JSON_ARRAY,
	    "list, as [\"a@example.org\"]", faults);
	const char *reason, *text;
	size_t i;

	for (i = 0; i < json_array_size(list); i++) {
		BUF(key, 2 * ADDRESS_MAX);

		text = json_string_value(json_array_get(list, i));
		if (text == NULL) {
			environment_fault(faults, "RECIPIENTS",
			    "element %zu is not a text", i + 1);
			continue;
		}
		reason = add_key(text, true, &key);
		if (reason == NULL &&
		    !table_add(&s->recipients, buf_text(&key), ""))
			reason = "is there twice";
		refuse("RECIPIENTS", text, reason, faults);
	}
}

/* Adds a target to *list, which ", " separates, unless it is in targets. */
static void
add_target(const char *from, const json_t *to, struct table *targets,
    struct buf *list, struct buf *faults)
{
	BUF(key, 2 * ADDRESS_MAX);
	const char *reason;

	if (!json_is_string(to)) {
		environment_fault(faults, "FORWARDS",
		    "\"%s\" is forwarded to something that is not a text",
		    from);
		return;
	}
	reason = add_key(json_string_value(to), false, &key);
	if (reason != NULL)
		environment_fault(faults, "FORWARDS",
		    "\"%s\" is forwarded to \"%s\", which %s", from,
		    json_string_value(to), reason);
	else if (table_add(targets, buf_text(&key), ""))
		buf_addf(list, "%s%s", list->len == 0 ? "" : ", ",
		    buf_text(&key));
}

static void
add_forward(struct settings *s, const char *from, const json_t *to,
    struct buf *faults)
{
	BUF(key, 2 * ADDRESS_MAX);
	BUF(list, TARGETS_MAX);
	TABLE(targets);
	const char *reason;
	size_t i;

	if (!json_is_array(to))
		add_target(from, to, &targets, &list, faults);
	else if (json_array_size(to) == 0)
		environment_fault(faults, "FORWARDS",
		    "\"%s\" is forwarded to nobody", from);
	for (i = 0; i < json_array_size(to); i++)
		add_target(from, json_array_get(to, i), &targets, &list,
		    faults);
	reason = add_key(from, false, &key);
	if (reason == NULL &&
	    !table_add(&s->forwards, buf_text(&key), buf_text(&list)))
		reason = "is there twice";
	refuse("FORWARDS", from, reason, faults);
	buf_fail(faults, list.error);
	buf_fail(faults, targets.error);
}

/* FORWARDS: a JSON object, address to address or list of addresses. */
static void
load_forwards(struct settings *s, struct buf *faults)
{
	json_auto_t *object = load_json(s, "FORWARDS", JSON_OBJECT,
	    "object, as {\"a@example.org\": \"b@example.net\"}", faults);
	const char *from;
	json_t *to;

	json_object_foreach(object, from, to)
	{
		add_forward(s, from, to, faults);
	}
}

/*
 * Appends an address of len octets with its domain in the other form, as
 * A-labels (xn--) or as U-labels; it stays empty where there is none.  By UTS
 * 46, as Postfix does it.
 */
static void
add_other_form(const char *address, size_t len, struct buf *out)
{
	BUF(domain, ADDRESS_MAX);
	char text[ADDRESS_MAX] = "";
	UErrorCode error = U_ZERO_ERROR;
	UIDNAInfo info = UIDNA_INFO_INITIALIZER;
	UIDNA *idna;
	size_t at;
	bool ascii;

	at = strcspn(address, "@") + 1;
	if (at > len || memchr(address, '"', len) != NULL)
		return;
	buf_add(&domain, address + at, len - at);
	buf_fail(out, domain.error);
	ascii = text_is_ascii(buf_text(&domain), domain.len);
	if (ascii && strcasestr(buf_text(&domain), "xn--") == NULL)
		return;
	idna = uidna_openUTS46(UIDNA_NONTRANSITIONAL_TO_ASCII |
				   UIDNA_NONTRANSITIONAL_TO_UNICODE,
	    &error);
	if (ascii)
		(void)uidna_nameToUnicodeUTF8(idna, domain.data, -1, text,
		    sizeof(text), &info, &error);
	else
		(void)uidna_nameToASCII_UTF8(idna, domain.data, -1, text,
		    sizeof(text), &info, &error);
	uidna_close(idna);
	if (U_SUCCESS(error) && error != U_STRING_NOT_TERMINATED_WARNING &&
	    info.errors == 0 && strcmp(text, domain.data) != 0)
		buf_addf(out, "%.*s%s", (int)at, address, text);
}

/* The same addresses in the other form of their domain: Postfix has none. */
static void
add_other_forms(struct table *t)
{
	const char *name;
	size_t i, n;

	for (i = 0, n = t->n; i < n; i++) {
		BUF(other, 2 * ADDRESS_MAX);
		BUF(key, 2 * ADDRESS_MAX);

		name = t->entries[i]->name;
		add_other_form(name, strlen(name), &other);
		if (other.error != 0)
			t->error = other.error;
		else if (other.len > 0 &&
			 add_key(buf_text(&other), true, &key) == NULL)
			(void)table_add(t, buf_text(&key),
			    t->entries[i]->value);
	}
}

/* And in an account's recipients, which swiftdrop compares. */
static void
complete_claims(struct table *t, const struct pair *claims)
{
	const char *p;
	BUF(value, TARGETS_MAX);
	size_t len;

	buf_adds(&value, claims->value);
	for (p = claims->value; *p != '\0'; p += len) {
		BUF(other, 2 * ADDRESS_MAX);

		p += strspn(p, ",\r\n\t ");
		len = strcspn(p, ",\r\n\t ");
		add_other_form(p, len, &other);
		if (other.len > 0)
			buf_addf(&value, ",%s", buf_text(&other));
		/* One that is too long is the filter's to refuse. */
		if (other.error == ENOMEM)
			buf_fail(&value, ENOMEM);
	}
	if (value.error != 0)
		t->error = value.error;
	else
		table_set(t, claims->name, buf_text(&value));
}

static void
load_other_forms(struct settings *s)
{
	struct table *t = &s->environment.variables;
	const char *end;
	size_t i;

	add_other_forms(&s->recipients);
	add_other_forms(&s->forwards);
	for (i = 0; i < t->n; i++) {
		end = strrchr(t->entries[i]->name, '_');
		if (end != NULL && strcasecmp(end, "_RECIPIENTS") == 0)
			complete_claims(t, t->entries[i]);
	}
}

static void
load_address(const struct settings *s, const char *name, struct buf *key,
    struct buf *faults)
{
	const char *text = environment_get(&s->environment, name);

	if (text != NULL)
		refuse(name, text, add_key(text, false, key), faults);
}

/* Whether a variable is not the user's; says so. */
static bool
is_reserved(const char *name, struct buf *faults)
{
	size_t i;

	for (i = 0; i < COUNT(reserved); i++) {
		if (strcasecmp(reserved[i].name, name) != 0)
			continue;
		if (reserved[i].instead == NULL)
			environment_fault(faults, name, "is set by the image");
		else
			environment_fault(faults, name,
			    "has its own variable, %s", reserved[i].instead);
		return true;
	}
	return false;
}

/* POSTFIX_parameter */
static void
check_parameter(const struct pair *variable, const char *parameters,
    struct buf *faults)
{
	const char *value = variable->value;
	BUF(line, 4096);

	buf_addf(&line, "\n%s\n", variable->name + 8);
	if (line.error != 0 || strstr(parameters, buf_text(&line)) == NULL)
		environment_fault(faults, variable->name,
		    "is not a parameter of this Postfix; nearly all are in "
		    "lower case");
	if (strpbrk(value, "\r\n") != NULL)
		environment_fault(faults, variable->name,
		    "must be a single line");
	if ((*value == '"' || *value == '\'') &&
	    value[strlen(value) - 1] == *value)
		environment_fault(faults, variable->name,
		    "has quotation marks around it, which Postfix takes for a "
		    "part of the value");
}

static void
load_parameters(struct settings *s, const char *parameters, struct buf *faults)
{
	const struct table *t = &s->environment.variables;
	size_t i;

	for (i = 0; i < t->n; i++)
		if (!is_reserved(t->entries[i]->name, faults) &&
		    strncmp(t->entries[i]->name, "POSTFIX_", 8) == 0)
			check_parameter(t->entries[i], parameters, faults);
	s->recipient_delimiter = table_get(t, "POSTFIX_recipient_delimiter");
	if (s->recipient_delimiter == NULL)
		s->recipient_delimiter = "+";
	if (strpbrk(s->recipient_delimiter, " \t") != NULL)
		environment_fault(faults, "POSTFIX_recipient_delimiter",
		    "holds a blank, which is no delimiter");
}

void
settings_load(struct settings *s, char *const *environment,
    const char *parameters, struct buf *faults, struct buf *warnings)
{
	*s = (struct settings){ .postmaster = { .max = 2 * ADDRESS_MAX },
		.errormail = { .max = 2 * ADDRESS_MAX } };
	environment_load(&s->environment, environment, faults, warnings);
	load_host(s, faults);
	load_values(s, faults);
	load_parameters(s, parameters, faults);
	load_recipients(s, faults);
	load_forwards(s, faults);
	load_other_forms(s);
	load_address(s, "POSTMASTER", &s->postmaster, faults);
	load_address(s, "ERRORMAIL", &s->errormail, faults);
	buf_fail(faults, s->recipients.error | s->forwards.error |
			     s->environment.variables.error);
}

void
settings_free(struct settings *s)
{
	environment_free(&s->environment);
	buf_free(&s->postmaster);
	buf_free(&s->errormail);
	table_free(&s->recipients);
	table_free(&s->forwards);
	table_free(&s->domains);
	config_free(&s->config);
}

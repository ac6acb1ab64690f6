/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The configuration: which keys there are, where their values come from and
 * what they must look like.  ini.c reads the file, route.c the recipients.
 * Logs nothing: faults and warnings are handed to the caller.
 */
#include <sys/stat.h>

#include <errno.h>
#include <limits.h>
#include <regex.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "config.h"
#include "file.h"
#include "ini.h"
#include "log.h"
#include "stream.h"
#include "text.h"

#include "banned.h"

enum {
	FILE_MAX = 4 * 1024 * 1024,       /* octets of a configuration file */
	VARIABLES_MAX = 16 * 1024 * 1024, /* octets, each with its name twice */
	NOTES_MAX = 1024 * 1024 * 1024, /* octets; the text above bounds them */
	SECRET_MAX = 64 * 1024, /* octets of a file that holds a secret */
	PREFIX_MAX = 512,       /* leaves room in Swift's 1024 of a name */
	CONTAINER_MAX = 256     /* Swift's max_container_name_length */
};

#define SECONDS_MAX      (366LL * 86400) /* no timer here needs more */
#define OBJECT_MAX       5368709122LL    /* Swift's max_file_size */
#define DELETE_AFTER_MAX 3155760000LL    /* a hundred years */

enum key_type {
	NUMBER, /* from min to max */
	BOOL,
	TEXT, /* of max octets; from here on the member is text */
	URL,
	PROXY
};

enum key_flag {
	SECRET = 1 << 0, /* has an X_file; printed as *** */
	EMPTY = 1 << 1,  /* an empty value is a value */
	LIST = 1 << 2,   /* may have line breaks, and is not inherited */
	ALIAS = 1 << 3   /* counts where no row above has set the member */
};

/* The kinds of logins. */
enum login {
	OTHER = 1 << 0, /* auth_version is none */
	V1 = 1 << 1,
	USER = 1 << 2,
	USER_ID = 1 << 3,
	CREDENTIAL = 1 << 4,
	SIGNED = 1 << 5,
	QUERY = 1 << 6,
	NAMED = 1 << 7, /* a credential by name, and whose it is */
	NAMED_ID = 1 << 8,
	PASSWORD = USER | USER_ID,
	BY_USER = PASSWORD | NAMED | NAMED_ID,
	CREDENTIALS = CREDENTIAL | NAMED | NAMED_ID,
	KEYSTONE = PASSWORD | CREDENTIALS,
	TEMPURL = SIGNED | QUERY,
	ANY = OTHER | V1 | KEYSTONE | TEMPURL
};

/* One row for each key; the same table reads, checks, compares and prints. */
struct key {
	const char *name;
	enum key_type type;
	size_t offset;        /* of its member */
	const char *standard; /* default, NULL for none */
	unsigned int flags;
	int64_t min, max;
	bool (*is)(const char *value); /* whether it may be that */
	const char *words;             /* or which ones it may be */
	const char *must;              /* what is said when it may not */
	const char *rival;             /* a section's own one of both counts */
	unsigned int same;             /* in logins of a kind that are one */
	unsigned int needed;           /* by logins of a kind */
	const char *instead;           /* and what would do, but with V1 */
};

#define ENDPOINT "must be IP:port, [v6]:port, localhost:port or unix:path"

static bool
is_host_name(const char *value)
{
	return strpbrk(value, " \"<>@") == NULL;
}

/* An HTTP proxy as libcurl takes it: it shows what it does not understand. */
#define PROXY_URL                                                              \
	"^([Hh][Tt][Tt][Pp][Ss]?://)?([^][/?#@ ]+@)?"                          \
	"([A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+])"                                 \
	"(:(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|"           \
	"[1-5]?[0-9]{1,4}))?/?$"

static bool
is_container(const char *value)
{
	return strchr(value, '/') == NULL && strcmp(value, ".") != 0 &&
	       strcmp(value, "..") != 0;
}

static bool
is_absolute(const char *value)
{
	return *value == '/';
}

/* Without memory to find out it is none. */
static bool
is_proxy(const char *value)
{
	regex_t regex;
	bool found;

	if (regcomp(&regex, PROXY_URL, REG_EXTENDED | REG_NOSUB) != 0)
		return false;
	found = regexec(&regex, value, 0, NULL, 0) == 0;
	regfree(&regex);
	return found;
}

/* clang-format off */
#define S(field) offsetof(struct smtp_config, field)
static const struct key smtp_keys[] = {
	{ "hostname", TEXT, S(hostname), .is = is_host_name, .must = "is not a host name" },
	{ "origin", TEXT, S(origin), .standard = NULL },
	{ "message_size_limit", NUMBER, S(message_size_limit), .standard = "52494336", .min = 1, .max = OBJECT_MAX },
	{ "recipient_limit", NUMBER, S(recipient_limit), .standard = "1000", .min = 1, .max = 100000 },
	{ "recipient_delimiter", TEXT, S(recipient_delimiter), .standard = "+", .flags = EMPTY },
	{ "unknown_recipient_code", NUMBER, S(unknown_recipient_code), .standard = "450", .min = 450, .max = 550, .words = "450 550", .must = "must be 450 or 550" },
	{ "reinject", TEXT, S(reinject), .is = stream_is_endpoint, .must = ENDPOINT },
	{ "allow_remote", BOOL, S(allow_remote), .standard = "no" },
	{ "timeout", NUMBER, S(timeout_s), .standard = "300", .min = 1, .max = SECONDS_MAX },
	{ "session_limit", NUMBER, S(session_limit_s), .standard = "900", .min = 1, .max = SECONDS_MAX },
	{ "deadline", NUMBER, S(deadline_s), .standard = "90", .min = 1, .max = SECONDS_MAX },
	{ "spool_directory", TEXT, S(spool_directory), .standard = NULL },
	{ "rspamd", URL, S(rspamd), .standard = NULL },
	{ "rspamd_timeout", NUMBER, S(rspamd_timeout_s), .standard = "10", .min = 1, .max = SECONDS_MAX },
	{ "rspamd_required", BOOL, S(rspamd_required), .standard = "no" },
	{ "rspamd_reject", BOOL, S(rspamd_reject), .standard = "yes" },
	{ "statsd", TEXT, S(statsd), .is = stream_is_endpoint, .must = ENDPOINT },
	{ "log", TEXT, S(log), .standard = "auto", .is = log_is_target, .must = "must be auto, journal, syslog, [json:]stderr, [json:]postlog:PATH or none" },
	{ .name = NULL }
};
#define A(field) offsetof(struct account, field)
static const struct key account_keys[] = {
	{ "recipients", TEXT, A(recipients), .flags = LIST },
	{ "container", TEXT, A(container), .max = CONTAINER_MAX, .is = is_container, .must = "must be a container's name, without / and of at most 256 octets", .needed = ANY },
	{ "prefix", TEXT, A(prefix), .standard = "cur/", .flags = EMPTY, .max = PREFIX_MAX, .must = "must have at most 512 octets" },
	{ "auth_version", TEXT, A(auth_version_text), .standard = "3", .words = "3 3.0 1 1.0 tempurl", .must = "must be one of: 3 3.0 1 1.0 tempurl" },
	{ "authurl", URL, A(authurl), .needed = V1 | KEYSTONE, .same = V1 | KEYSTONE },
	{ "user", TEXT, A(user), .needed = V1 | USER | NAMED, .same = V1 | BY_USER, .instead = ", or os_options_application_credential_id" },
	{ "key", TEXT, A(key), .flags = SECRET, .needed = V1 | PASSWORD },
	{ "os_options_project_name", TEXT, A(project_name), .same = PASSWORD },
	{ "os_options_project_id", TEXT, A(project_id), .same = PASSWORD },
	{ "os_options_project_domain_name", TEXT, A(project_domain_name), .same = PASSWORD },
	{ "os_options_project_domain_id", TEXT, A(project_domain_id), .same = PASSWORD },
	{ "os_options_user_domain_name", TEXT, A(user_domain_name), .same = BY_USER },
	{ "os_options_user_domain_id", TEXT, A(user_domain_id), .same = BY_USER },
	{ "os_options_user_id", TEXT, A(user_id), .same = BY_USER },
	{ "os_options_tenant_name", TEXT, A(project_name), .flags = ALIAS },
	{ "tenant_name", TEXT, A(project_name), .flags = ALIAS },
	{ "os_options_tenant_id", TEXT, A(project_id), .flags = ALIAS },
	{ "os_options_region_name", TEXT, A(region_name), .same = KEYSTONE },
	{ "os_options_endpoint_type", TEXT, A(endpoint_type), .standard = "public", .words = "public publicURL internal internalURL admin adminURL", .must = "must be one of: public publicURL internal internalURL admin adminURL" },
	{ "os_options_service_type", TEXT, A(service_type), .standard = "object-store", .same = KEYSTONE },
	{ "os_options_object_storage_url", URL, A(object_storage_url), .same = V1 | KEYSTONE },
	{ "os_options_application_credential_id", TEXT, A(application_credential_id), .same = KEYSTONE },
	{ "os_options_application_credential_name", TEXT, A(application_credential_name), .same = BY_USER },
	{ "os_options_application_credential_secret", TEXT, A(application_credential_secret), .flags = SECRET, .needed = CREDENTIALS },
	{ "token_file", TEXT, A(token_file), .is = is_absolute, .must = "must be an absolute path" },
	{ "storage_url", URL, A(storage_url), .needed = TEMPURL, .same = TEMPURL },
	{ "temp_url_key", TEXT, A(temp_url_key), .flags = SECRET, .rival = "temp_url_query", .needed = SIGNED, .instead = ", or temp_url_query" },
	{ "temp_url_digest", TEXT, A(temp_url_digest), .standard = "sha256", .words = "sha1 sha256 sha512", .must = "must be one of: sha1 sha256 sha512" },
	{ "temp_url_query", TEXT, A(temp_url_query), .flags = SECRET, .rival = "temp_url_key" },
	{ "cacert", TEXT, A(http.cacert), .standard = "/etc/ssl/certs" },
	{ "insecure", BOOL, A(http.insecure), .standard = "no" },
	{ "cert", TEXT, A(http.cert), .standard = NULL },
	{ "cert_key", TEXT, A(http.cert_key), .standard = NULL },
	{ "proxy", PROXY, A(http.proxy), .is = is_proxy, .must = "must be http://host:port or http://user:password@host:port, with / ? # @ in user and password as %2F %3F %23 %40" },
	{ "timeout", NUMBER, A(http.timeout_s), .standard = "60", .min = 1, .max = SECONDS_MAX },
	{ "retries", NUMBER, A(retries), .standard = "2", .min = 0, .max = 100 },
	{ "content_type", TEXT, A(content_type), .standard = "message/rfc822" },
	{ "delete_after", NUMBER, A(delete_after_s), .min = 1, .max = DELETE_AFTER_MAX },
	{ "metadata", BOOL, A(metadata), .standard = "yes" },
	{ .name = NULL }
};
/* clang-format on */

/* What each variable of ours begins with. */
#define VARIABLE "SWIFTDROP_"

/* The member of a structure that a key's table describes. */
#define MEMBER(type, target, key)                                              \
	(*(type *)(void *)((char *)(target) + (key)->offset))
#define VALUE(type, target, key)                                               \
	(*(type const *)(const void *)((const char *)(target) + (key)->offset))

/*
 * A key as somebody wrote it, or another place where something is wrong, with
 * as much of it as there is; text is borrowed.  A section's beginning has no
 * key and stands among the others.
 */
struct setting {
	const char *section;
	const char *name; /* of the key, perhaps as X_file */
	const struct key *key;
	const char *value;    /* "" where the key stood alone */
	const char *variable; /* of the environment, or NULL */
	unsigned int line;    /* of the file */
	bool is_file;         /* written as X_file: the value is a path */
};

static const struct setting nowhere = { .section = NULL };

struct loader {
	struct config *config;    /* borrowed */
	const char *path;         /* borrowed; NULL for no file */
	char *const *environment; /* borrowed */
	struct buf *faults;       /* borrowed */
	struct buf text;          /* of the file; cut up */
	struct buf variables;     /* of the environment, likewise */
	struct buf settings;      /* struct setting, in their order */
	bool has_file;
	bool readable_by_others;
};

/*
 * Where a fault is: a file's line, its section and key, or a variable; what
 * stands nowhere is asked for in the form that the rest has.
 */
static void
add_place(const struct loader *l, struct setting at, struct buf *out)
{
	const char *p, *name = at.name == NULL ? "" : at.name;

	if (at.variable != NULL) {
		buf_addf(out, "%s: ", at.variable);
	} else if (at.section != NULL && !l->has_file) {
		buf_addf(out, VARIABLE "%s", at.section);
		for (p = name; *p != '\0'; p++)
			buf_addf(out, "%s%c", p == name ? "_" : "",
			    ascii_upper(*p));
		buf_adds(out, ": ");
	} else {
		buf_adds(out, l->path == NULL ? "environment" : l->path);
		if (at.line != 0)
			buf_addf(out, ":%u", at.line);
		buf_adds(out, ": ");
		if (at.section != NULL)
			buf_addf(out, "[%s] ", at.section);
		if (*name != '\0')
			buf_addf(out, "%s: ", name);
	}
}

/*
 * Appends a line about a place.  What many sections inherit is said once, and
 * what a name brought along does not begin another line.
 */
__attribute__((format(printf, 4, 5))) static void
say(const struct loader *l, struct buf *out, struct setting at,
    const char *format, ...)
{
	size_t i, start = out->len;
	const char *line;
	va_list args;

	add_place(l, at, out);
	va_start(args, format);
	buf_vaddf(out, format, args);
	va_end(args);
	for (i = start; i < out->len; i++)
		if (is_control(out->data[i]))
			out->data[i] = '?';
	buf_addc(out, '\n');
	/* Ends at an older line that says the same, or behind all of them. */
	line = out->data;
	while (out->error == 0 && line < out->data + start &&
	       strncmp(line, out->data + start, out->len - start) != 0)
		line = strchr(line, '\n') + 1;
	if (out->error != 0 || line < out->data + start)
		buf_cut(out, start);
}

/* A file that holds a secret: its path stands where a variable would. */
static void
warn_of_readers(struct loader *l, const char *path)
{
	say(l, &l->config->warnings, (struct setting){ .variable = path },
	    "holds a secret and is readable by others");
}

static const struct key *
keys_of(const char *section)
{
	return strcmp(section, "SMTP") == 0 ? smtp_keys : account_keys;
}

/* The key that a name means, also as X_file; its table ends without a name. */
static const struct key *
find_key(const struct key *key, const char *name)
{
	char first = ascii_lower(*name);
	size_t len;

	for (; key->name != NULL; key++) {
		len = *key->name == first ? strlen(key->name) : 0;
		if (len > 0 && strncasecmp(name, key->name, len) == 0 &&
		    (name[len] == '\0' ||
			((key->flags & SECRET) != 0 &&
			    strcasecmp(name + len, "_file") == 0)))
			break;
	}
	return key;
}

/* Where a section itself sets a key, or NULL; with none, where it begins. */
static struct setting *
own_setting(const struct loader *l, const char *section, const struct key *key)
{
	struct setting *settings = (void *)l->settings.data;
	size_t i;

	for (i = 0; i < l->settings.len / sizeof(*settings); i++)
		if (settings[i].key == key &&
		    strcmp(settings[i].section, section) == 0)
			return &settings[i];
	return NULL;
}

/* The section's own setting, or the one it inherits, or NULL. */
static const struct setting *
effective(const struct loader *l, const char *section, const struct key *key)
{
	const struct setting *own = own_setting(l, section, key);

	if (own != NULL || keys_of(section) == smtp_keys ||
	    (key->flags & LIST) != 0)
		return own;
	/* A section's own choice between two keys beats what it inherits. */
	if (key->rival != NULL)
		own =
		    own_setting(l, section, find_key(account_keys, key->rival));
	return own != NULL && *own->value != '\0'
		   ? NULL
		   : own_setting(l, "DEFAULT", key);
}

/* Where a key of a section was written, or where it should be. */
static struct setting
place_of(const struct loader *l, const char *section, const char *name)
{
	const struct setting *found =
	    effective(l, section, find_key(keys_of(section), name));

	return found != NULL
		   ? *found
		   : (struct setting){ .section = section, .name = name };
}

/* Whether the section is new; notes it if so. */
static bool
add_section(struct loader *l, const char *name)
{
	struct setting section = { .section = name };

	if (own_setting(l, name, NULL) != NULL)
		return false;
	buf_add(&l->settings, &section, sizeof(section));
	return true;
}

/* Says that missing knows the key; swiftclient may know more than we do. */
static void
unknown_key(struct loader *l, const struct setting *newer)
{
	bool is_option = strncmp(newer->name, "os_options_", 11) == 0 &&
			 keys_of(newer->section) == account_keys;
	struct buf *out = is_option ? &l->config->warnings : l->faults;
	const char *reason =
	    is_option ? "unknown option, not used" : "unknown key";

	if (newer->variable == NULL)
		say(l, out, *newer, "%s", reason);
	else
		say(l, out, *newer, "is read as \"%s\" of [%s]: %s",
		    newer->name, newer->section, reason);
}

/* Notes what was written, unless it contradicts what was written before. */
static void
put(struct loader *l, struct setting newer)
{
	const char *reason = NULL;
	struct setting *old;
	bool is_form;

	if (newer.key->name == NULL) {
		unknown_key(l, &newer);
		return;
	}
	newer.is_file = newer.name[strlen(newer.key->name)] != '\0';
	if ((newer.key->flags & SECRET) != 0 && !newer.is_file &&
	    newer.variable == NULL && *newer.value != '\0' &&
	    l->readable_by_others)
		warn_of_readers(l, l->path);
	old = own_setting(l, newer.section, newer.key);
	if (old == NULL) {
		buf_add(&l->settings, &newer, sizeof(newer));
		return;
	}
	is_form = old->is_file != newer.is_file;
	if (newer.variable == NULL)
		reason = is_form ? "stands beside its other form, with and "
				   "without _file; keep one of them"
				 : "duplicate key";
	/* A variable beats the file; an empty one is no second form. */
	else if (old->variable != NULL &&
		 !(is_form && (*old->value == '\0' || *newer.value == '\0')))
		reason = "is given twice in the environment; keep one of them";
	if (reason != NULL)
		say(l, l->faults, newer, "%s", reason);
	else if (old->variable == NULL || *newer.value != '\0')
		*old = newer;
}

/* Takes what the file holds. */
static void
take_item(void *context, const struct ini_item *item)
{
	struct setting newer = { .section = item->section,
		.name = item->key,
		.value = item->value == NULL ? "" : item->value,
		.line = item->line };
	struct loader *l = context;

	if (item->fault != NULL) {
		say(l, l->faults, newer, "%s", item->fault);
	} else if (item->key != NULL) {
		newer.key = find_key(keys_of(newer.section), newer.name);
		put(l, newer);
	} else if (text_has_control(newer.section)) {
		newer.section = NULL;
		say(l, l->faults, newer,
		    "control character in a section's name");
	} else if (!add_section(l, newer.section)) {
		say(l, l->faults, newer, "duplicate section");
	}
}

/* Whether the file can be used, or there is none. */
static bool
take_file(struct loader *l)
{
	struct stat st;
	int error;

	error = l->path == NULL                           ? ENOENT
		: file_read(l->path, &l->text, &st) == -1 ? errno
							  : 0;
	l->has_file = error != ENOENT;
	if (error == 0) {
		l->readable_by_others = (st.st_mode & S_IROTH) != 0;
		ini_parse(&l->text, take_item, l);
	} else if (l->has_file) {
		say(l, l->faults, nowhere, "%s",
		    error == EMSGSIZE ? "is too large" : strerror(error));
	}
	return error == 0 || error == ENOENT;
}

/*
 * Kubernetes and Docker make up variables for a service of our name, or of one
 * that begins with it; they are not meant for us, and none of them is a key.
 */
#define MADE_UP                                                                \
	"^[^_]+_(([^=]*_)?(SERVICE_HOST|SERVICE_PORT(_[^=]+)?|PORT("           \
	"_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)|NAME|ENV_[^=]*)="

char **
config_variables(char *const *environment, const char *prefix)
{
	size_t i, len = strlen(prefix), n = 0;
	regex_t made_up;
	char **ours;

	for (i = 0; environment[i] != NULL; i++)
		n += strncmp(environment[i], prefix, len) == 0;
	ours = calloc(n + 1, sizeof(*ours));
	if (ours == NULL)
		return NULL;
	if (n == 0)
		return ours;
	if (regcomp(&made_up, MADE_UP, REG_EXTENDED | REG_NOSUB) != 0) {
		free(ours);
		errno = ENOMEM;
		return NULL;
	}
	n = 0;
	for (; *environment != NULL; environment++)
		if (strncmp(*environment, prefix, len) == 0 &&
		    regexec(&made_up, *environment, 0, NULL, 0) != 0)
			ours[n++] = *environment;
	regfree(&made_up);
	return ours;
}

static int
compare_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* SWIFTDROP_<SECTION>_<OPTION>=value, cut up in place. */
static void
take_variable(struct loader *l, char *variable, const char *whole_name)
{
	struct setting newer = { .variable = whole_name };
	bool is_text = utf8_is_valid(variable, strlen(variable));
	char *option, *p, *section, *value = variable + strlen(whole_name);

	if (*value != '\0')
		*value++ = '\0';
	option = variable + sizeof(VARIABLE) - 1;
	section = strsep(&option, "_");
	if (*section == '\0' || option == NULL || *option == '\0') {
		say(l, l->faults, newer,
		    "names no option, write SWIFTDROP_<SECTION>_<OPTION>");
		return;
	}
	if (!is_text || text_has_control(section)) {
		say(l, l->faults, newer, "is not text in UTF-8");
		return;
	}
	for (p = section; *p != '\0'; p++)
		*p = ascii_upper(*p);
	for (p = option; *p != '\0'; p++)
		*p = ascii_lower(*p);
	newer.section = section;
	newer.name = option;
	newer.key = find_key(keys_of(section), option);
	newer.value = value;
	/* It means what a line of the file would; a secret is what it is. */
	if ((newer.key->flags & SECRET) == 0 ||
	    option[strlen(newer.key->name)] != '\0')
		newer.value = ini_trim(value);
	(void)add_section(l, section);
	put(l, newer);
}

/* In the order of their names, so that nothing depends on environ(7)'s. */
static void
take_environment(struct loader *l)
{
	char *name, *next, **ours, *variable;
	size_t i, n;

	ours = config_variables(l->environment, VARIABLE);
	for (n = 0; ours != NULL && ours[n] != NULL; n++)
		;
	if (n > 0)
		qsort(ours, n, sizeof(*ours), compare_text);
	/* The name, for faults, then all of it, which is cut up. */
	for (i = 0; i < n; i++) {
		buf_add(&l->variables, ours[i], strcspn(ours[i], "="));
		buf_addc(&l->variables, '\0');
		buf_add(&l->variables, ours[i], strlen(ours[i]) + 1);
	}
	if (ours == NULL || l->variables.error != 0) {
		buf_fail(&l->settings, ENOMEM);
		n = 0;
	}
	free(ours);
	for (next = l->variables.data; n > 0; n--) {
		name = next;
		variable = name + strlen(name) + 1;
		next = variable + strlen(variable) + 1;
		take_variable(l, variable, name);
	}
}

bool
config_is_key(const char *variable)
{
	const char *section = strchr(variable, '_');
	const char *option = section == NULL ? NULL : strchr(section + 1, '_');

	return option != NULL && option != section + 1 &&
	       find_key(text_begins(section, "_SMTP_") ? smtp_keys
						       : account_keys,
		   option + 1)
		       ->name != NULL;
}

/* The value of a variable of the environment, NULL where not set or empty. */
static const char *
variable_of(const struct loader *l, const char *name)
{
	size_t i, len = strlen(name);

	for (i = 0; l->environment[i] != NULL; i++)
		if (strncmp(l->environment[i], name, len) == 0 &&
		    l->environment[i][len] == '=' &&
		    l->environment[i][len + 1] != '\0')
			return l->environment[i] + len + 1;
	return NULL;
}

/* What is wrong with a secret's text, or NULL. */
static const char *
check_secret(struct buf *secret)
{
	const char *text = buf_text(secret);

	if (secret->len > 0 && text[secret->len - 1] == '\n')
		buf_cut(secret, secret->len - 1);
	if (secret->len == 0)
		return "is empty";
	if (strncmp(text, "\357\273\277", 3) == 0)
		return "begins with a byte order mark; save it without";
	if (text[secret->len - 1] == '\r')
		return "ends its line with CR LF; save it with LF";
	if (strlen(text) != secret->len || text_has_control(text))
		return "holds a control character";
	return utf8_is_valid(text, secret->len) ? NULL : "is not text in UTF-8";
}

/* Reads an X_file; a relative path starts where the credentials are. */
static const char *
read_secret(struct loader *l, const struct setting *setting, struct buf *secret)
{
	BUF(path, PATH_MAX);
	const char *folder = variable_of(l, "CREDENTIALS_DIRECTORY");
	const char *reason, *slash;
	struct stat st;
	bool is_read;

	slash = l->path == NULL ? NULL : strrchr(l->path, '/');
	if (setting->value[0] != '/' && folder != NULL)
		buf_addf(&path, "%s/", folder);
	else if (setting->value[0] != '/' && slash != NULL)
		buf_add(&path, l->path, (size_t)(slash - l->path) + 1);
	buf_adds(&path, setting->value);
	is_read = file_read(buf_text(&path), secret, &st) == 0;
	reason = is_read ? check_secret(secret) : strerror(errno);
	if (is_read && (st.st_mode & S_IROTH) != 0)
		warn_of_readers(l, buf_text(&path));
	if (reason == NULL)
		return buf_text(secret);
	say(l, l->faults, *setting, "%s%s: %s", is_read ? "" : "cannot read ",
	    buf_text(&path), reason);
	/* No more to be said of the key. */
	return "***";
}

/* What libcurl and the signature need; it is not for us to parse URLs. */
static const char *
check_url(const char *value)
{
	const char *p;

	if (!text_begins(value, "http://") && !text_begins(value, "https://"))
		return "must begin with http:// or https://";
	p = strstr(value, "://") + 3;
	if (*p == '\0' || *p == '/')
		return "names no host";
	if (strpbrk(value, " ?#") != NULL)
		return "must not have a blank, a query or a fragment";
	/* Where a user part ends must be clear, or it could be shown. */
	if (strchr(p + strcspn(p, "/"), '@') != NULL)
		return "must not have an @ behind a /; write a / in a user or "
		       "password as %2F";
	return NULL;
}

static const char *
convert_number(const struct key *key, const char *value, int64_t *number)
{
	size_t len = strlen(value);

	if (len == 0 || len > 18 || strspn(value, "0123456789") != len)
		return "must be a whole number";
	*number = strtoll(value, NULL, 10);
	return *number < key->min || *number > key->max
		   ? "is out of range, see swiftdrop.ini(5)"
		   : NULL;
}

/* The words of configparser's getboolean(). */
static const char *
convert_bool(const char *value, bool *flag)
{
	static const char *const words[] = { "no", "yes", "false", "true",
		"off", "on", "0", "1" };
	size_t i;

	for (i = 0; i < COUNT(words) && strcasecmp(value, words[i]) != 0; i++)
		;
	*flag = i % 2 == 1;
	return i < COUNT(words) ? NULL : "must be yes or no";
}

static bool
has_word(const char *words, const char *word)
{
	size_t len;

	for (; *words != '\0'; words += len + strspn(words + len, " ")) {
		len = strcspn(words, " ");
		if (strncmp(words, word, len) == 0 && word[len] == '\0')
			return true;
	}
	return false;
}

/* What is wrong with a value as text, or NULL. */
static const char *
check_text(const struct key *key, const char *value)
{
	const char *p;

	for (p = value; *p != '\0'; p++)
		if (is_control(*p) && !(*p == '\n' && (key->flags & LIST) != 0))
			return *p == '\n' ? "must be a single line"
					  : "control character in the value";
	if (key->type == URL)
		return check_url(value);
	return (key->type == TEXT && key->max != 0 &&
		   strlen(value) > (size_t)key->max) ||
		       (key->is != NULL && !key->is(value)) ||
		       (key->words != NULL && !has_word(key->words, value))
		   ? key->must
		   : NULL;
}

/* Stores a value in its member; returns what is wrong with it, or NULL. */
static const char *
convert(const struct key *key, const char *value, void *target)
{
	const char *reason;
	char **text;

	reason = value == key->standard ? NULL : check_text(key, value);
	if (key->type == NUMBER && reason == NULL)
		return convert_number(key, value,
		    &MEMBER(int64_t, target, key));
	if (key->type == BOOL && reason == NULL)
		return convert_bool(value, &MEMBER(bool, target, key));
	if (key->type < TEXT)
		return reason;
	/* Also what is wrong: it is not missing as well. */
	text = &MEMBER(char *, target, key);
	if (*text == NULL)
		*text = strdup(value);
	return *text == NULL ? strerror(ENOMEM) : reason;
}

/* Turns the settings of a section into members of *target. */
static void
resolve(struct loader *l, const char *section, void *target)
{
	const struct setting *setting;
	const struct key *key;
	const char *reason, *value;

	for (key = keys_of(section); key->name != NULL; key++) {
		BUF(secret, SECRET_MAX);

		setting = effective(l, section, key);
		value = setting == NULL ? "" : setting->value;
		if (*value != '\0' && setting->is_file)
			value = read_secret(l, setting, &secret);
		/* Empty is the same as not set, but where it is a value. */
		if (*value == '\0' &&
		    (setting == NULL || (key->flags & EMPTY) == 0))
			value = key->standard;
		reason = value == NULL ? NULL : convert(key, value, target);
		if (reason != NULL)
			say(l, l->faults, place_of(l, section, key->name), "%s",
			    reason);
	}
}

static bool
default_text(char **member, const char *value)
{
	if (*member == NULL)
		*member = strdup(value);
	return *member != NULL;
}

/* Reads [SMTP], and what the table cannot say of it. */
static bool
finish_smtp(struct loader *l)
{
	struct smtp_config *smtp = &l->config->smtp;
	char host[HOST_NAME_MAX + 1] = "";
	const char *folder;

	resolve(l, "SMTP", smtp);
	(void)gethostname(host, sizeof(host) - 1);
	folder = variable_of(l, "TMPDIR");
	if (!default_text(&smtp->hostname,
		*host == '\0' ? "localhost" : host) ||
	    !default_text(&smtp->origin, smtp->hostname) ||
	    !default_text(&smtp->spool_directory,
		folder == NULL ? "/tmp" : folder))
		return false;
	l->config->routes.origin = smtp->origin;
	l->config->routes.delimiters = smtp->recipient_delimiter;
	return true;
}

static enum login
login_of(const struct account *a)
{
	if (a->auth_version == AUTH_TEMPURL)
		return a->temp_url_query == NULL ? SIGNED : QUERY;
	if (a->auth_version == AUTH_V1)
		return V1;
	if (a->application_credential_id != NULL)
		return CREDENTIAL;
	if (a->application_credential_name != NULL)
		return a->user_id == NULL ? NAMED : NAMED_ID;
	return a->user_id == NULL ? USER : USER_ID;
}

bool
config_has_credential(const struct account *a)
{
	return (login_of(a) & CREDENTIALS) != 0;
}

static bool
same(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/*
 * The region, the service's type and a storage URL given by hand count as
 * well: one login may lead to several clusters.
 */
bool
config_same_login(const struct account *a, const struct account *b)
{
	const struct key *key;

	for (key = account_keys; key->name != NULL; key++)
		if ((key->same & login_of(a)) != 0 &&
		    !same(VALUE(char *, a, key), VALUE(char *, b, key)))
			return false;
	return a->auth_version == b->auth_version;
}

bool
config_same_place(const struct account *a, const struct account *b)
{
	return same(a->container, b->container) && config_same_login(a, b);
}

/* As swiftclient has it: TENANT:USER; a project_name counts all the same. */
static bool
split_user(const struct loader *l, struct account *a)
{
	const struct setting *project;
	char *colon;

	if (a->auth_version != AUTH_KEYSTONE || (login_of(a) & PASSWORD) == 0 ||
	    a->user == NULL)
		return true;
	colon = strchr(a->user, ':');
	if (colon == NULL || colon == a->user || colon[1] == '\0' ||
	    strchr(colon + 1, ':') != NULL)
		return true;
	project = effective(l, a->name,
	    find_key(account_keys, "os_options_project_name"));
	if (project == NULL || *project->value == '\0') {
		free(a->project_name);
		a->project_name = strndup(a->user, (size_t)(colon - a->user));
	}
	memmove(a->user, colon + 1, strlen(colon));
	return a->project_name != NULL;
}

/* What the table cannot say of an account. */
static void
check_account(struct loader *l, const struct account *a)
{
	struct setting missing = { .section = a->name };
	enum login login;
	const struct key *key;

	login =
	    strchr("13t", *a->auth_version_text) == NULL ? OTHER : login_of(a);
	for (key = account_keys; key->name != NULL; key++) {
		missing.name = key->name;
		if ((key->needed & login) != 0 && VALUE(char *, a, key) == NULL)
			say(l, l->faults, missing, "is missing%s",
			    login == V1 || key->instead == NULL ? ""
								: key->instead);
	}
	if (*a->prefix != '\0' && a->prefix[strlen(a->prefix) - 1] != '/')
		say(l, &l->config->warnings, place_of(l, a->name, "prefix"),
		    "does not end in /: it is no folder, but how the objects' "
		    "names begin");
	if (a->temp_url_key != NULL && a->temp_url_query != NULL)
		say(l, l->faults, place_of(l, a->name, "temp_url_query"),
		    "stands beside temp_url_key; keep one of them");
	if (a->token_file != NULL && a->auth_version == AUTH_TEMPURL)
		say(l, l->faults, place_of(l, a->name, "token_file"),
		    "has no use with auth_version tempurl");
	if (a->auth_version == AUTH_KEYSTONE && a->authurl != NULL &&
	    strstr(a->authurl, "/v2.0") != NULL)
		say(l, l->faults, place_of(l, a->name, "authurl"),
		    "is of Keystone v2, which no longer exists; write .../v3");
}

/* Reads a section that is an account. */
static bool
finish_account(struct loader *l, const char *section)
{
	struct config *c = l->config;
	struct account *a = &c->accounts[c->naccounts];
	BUF(wrong, 4096);

	a->index = (int)c->naccounts++;
	a->name = strdup(section);
	resolve(l, section, a);
	if (a->name == NULL || a->auth_version_text == NULL ||
	    a->prefix == NULL)
		return false;
	a->auth_version = *a->auth_version_text == '3'   ? AUTH_KEYSTONE
			  : *a->auth_version_text == '1' ? AUTH_V1
							 : AUTH_TEMPURL;
	if (!split_user(l, a))
		return false;
	check_account(l, a);
	if (a->recipients == NULL)
		say(l, &c->warnings, (struct setting){ .section = section },
		    "this account has no recipients");
	else if (!route_add(&c->routes, a->index, a->recipients, &wrong))
		say(l, l->faults, place_of(l, section, "recipients"), "%s",
		    buf_text(&wrong));
	return true;
}

/* Two accounts that claim the same, or would replace each other's token. */
static void
check_pairs(struct loader *l)
{
	const struct account *a = l->config->accounts;
	const struct routes *r = &l->config->routes;
	const struct claim *claim;
	size_t i, k;

	for (i = 1; i < r->n; i++) {
		claim = &r->claims[i];
		if (claim->account != claim[-1].account &&
		    strcmp(claim->key, claim[-1].key) == 0)
			say(l, l->faults,
			    place_of(l, a[claim->account].name, "recipients"),
			    "\"%s\" is claimed by [%s] already", claim->key,
			    a[claim[-1].account].name);
	}
	for (i = 1; i < l->config->naccounts; i++)
		for (k = 0; k < i; k++)
			if (a[i].token_file != NULL &&
			    same(a[i].token_file, a[k].token_file) &&
			    !config_same_login(&a[i], &a[k]))
				say(l, l->faults,
				    place_of(l, a[i].name, "token_file"),
				    "is the file of another login; give it one "
				    "of its own");
}

/* Every section is an account, [DEFAULT] only when it has recipients. */
static bool
finish_accounts(struct loader *l)
{
	struct config *c = l->config;
	const struct setting *own, *settings = (void *)l->settings.data;
	size_t i, n = l->settings.len / sizeof(*settings);
	bool is_account;

	c->accounts = calloc(n + 1, sizeof(c->accounts[0]));
	if (c->accounts == NULL)
		return false;
	own = own_setting(l, "DEFAULT", find_key(account_keys, "recipients"));
	for (i = 0; i < n; i++) {
		is_account = settings[i].key == NULL &&
			     keys_of(settings[i].section) != smtp_keys &&
			     (strcmp(settings[i].section, "DEFAULT") != 0 ||
				 (own != NULL && *own->value != '\0'));
		if (is_account && !finish_account(l, settings[i].section))
			return false;
	}
	if (c->naccounts == 0)
		say(l, l->faults, nowhere,
		    "no account: no section has recipients");
	route_sort(&c->routes);
	check_pairs(l);
	return true;
}

int
config_load(struct config *c, const char *path, char *const *environment,
    struct buf *faults)
{
	char *const nothing[] = { NULL };
	struct loader l = { .config = c,
		.path = path,
		.environment = environment == NULL ? nothing : environment,
		.faults = faults,
		.text = { .max = FILE_MAX },
		.variables = { .max = VARIABLES_MAX },
		.settings = { .max = NOTES_MAX } };
	size_t before = faults->len;
	bool good = true;

	*c = (struct config){ .warnings = { .max = FILE_MAX } };
	if (take_file(&l)) {
		take_environment(&l);
		if (!l.has_file && l.variables.len == 0)
			say(&l, faults, nowhere, "%s", strerror(ENOENT));
		else
			good = finish_smtp(&l) && finish_accounts(&l);
		if (!good || c->warnings.error != 0 || l.settings.error != 0)
			say(&l, faults, nowhere, "%s", strerror(ENOMEM));
	}
	buf_free(&l.text);
	buf_free(&l.variables);
	buf_free(&l.settings);
	return faults->len == before && faults->error == 0 ? 0 : -1;
}

static void
free_keys(const struct key *key, void *target)
{
	char *text;

	for (; key->name != NULL; key++) {
		if (key->type < TEXT || (key->flags & ALIAS) != 0)
			continue;
		text = MEMBER(char *, target, key);
		if (text != NULL)
			explicit_bzero(text, strlen(text));
		free(text);
	}
}

void
config_free(struct config *c)
{
	size_t i;

	free_keys(smtp_keys, &c->smtp);
	for (i = 0; i < c->naccounts; i++) {
		free(c->accounts[i].name);
		free_keys(account_keys, &c->accounts[i]);
	}
	free(c->accounts);
	route_free(&c->routes);
	buf_free(&c->warnings);
	*c = (struct config){ .accounts = NULL };
}

static bool
is_set(const struct key *key, const void *target)
{
	if (key->type >= TEXT)
		return VALUE(char *, target, key) != NULL;
	return key->standard != NULL || VALUE(int64_t, target, key) != 0;
}

/* A value as the file has it; out of sight where hide says so. */
static void
print_value(const struct key *key, const void *target, bool hide,
    struct buf *out)
{
	const char *host, *p, *text;

	if (key->type == NUMBER)
		buf_addf(out, "%lld", (long long)VALUE(int64_t, target, key));
	if (key->type == BOOL)
		buf_adds(out, VALUE(bool, target, key) ? "yes" : "no");
	if (key->type < TEXT)
		return;
	text = VALUE(char *, target, key);
	text += strspn(text, "\n");
	if (hide && (key->flags & SECRET) != 0 && *text != '\0')
		text = "***";
	host = strstr(text, "://");
	host = host == NULL ? text : host + 3;
	p = memrchr(host, '@', strcspn(host, "/"));
	if (hide && key->type >= URL && p != NULL) {
		buf_addf(out, "%.*s***", (int)(host - text), text);
		text = p;
	}
	/* Line breaks separate recipients as commas do. */
	for (; *text != '\0'; text++)
		buf_addc(out, *text == '\n' ? ',' : *text);
}

static void
print_keys(const struct key *key, const void *target, const void *inherited,
    bool hide, struct buf *out)
{
	for (; key->name != NULL; key++) {
		/* What it does not inherit must be said. */
		if ((key->flags & ALIAS) != 0 ||
		    (!is_set(key, target) &&
			(inherited == NULL || !is_set(key, inherited))))
			continue;
		buf_addf(out, "%s = ", key->name);
		if (is_set(key, target))
			print_value(key, target, hide, out);
		buf_addc(out, '\n');
	}
}

void
config_print(const struct config *c, bool hide, struct buf *out)
{
	const struct account *inherited = NULL;
	size_t i;

	for (i = 0; i < c->naccounts; i++)
		if (strcmp(c->accounts[i].name, "DEFAULT") == 0)
			inherited = &c->accounts[i];
	buf_adds(out, "[SMTP]\n");
	print_keys(smtp_keys, &c->smtp, NULL, hide, out);
	for (i = 0; i < c->naccounts; i++) {
		buf_addf(out, "\n[%s]\n", c->accounts[i].name);
		print_keys(account_keys, &c->accounts[i], inherited, hide, out);
	}
}

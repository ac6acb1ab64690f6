/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The variables that mean us.  What their values must look like is
 * settings.c's affair; here is only what is the same for all: NAME_FILE,
 * and text without control characters.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "address.h"
#include "environment.h"

#include "banned.h"

enum {
	VALUE_MAX = 1024 * 1024 /* octets; ten thousands of addresses */
};

static const char *const names[VAR_COUNT] = {
	[VAR_MYHOSTNAME] = "MYHOSTNAME",
	[VAR_MYDOMAIN] = "MYDOMAIN",
	[VAR_RECIPIENTS] = "RECIPIENTS",
	[VAR_FORWARDS] = "FORWARDS",
	[VAR_POSTMASTER] = "POSTMASTER",
	[VAR_UPSTREAM_PROXY_PROTOCOL] = "UPSTREAM_PROXY_PROTOCOL",
	[VAR_DEBUG] = "DEBUG",
	[VAR_MESSAGE_SIZE_LIMIT] = "MESSAGE_SIZE_LIMIT",
	[VAR_MAX_PROCESSES] = "MAX_PROCESSES",
	[VAR_TLS_CERT_FILE] = "TLS_CERT_FILE",
	[VAR_TLS_KEY_FILE] = "TLS_KEY_FILE",
	[VAR_STARTUP_CHECK] = "STARTUP_CHECK",
	[VAR_DRAIN_TIMEOUT] = "DRAIN_TIMEOUT",
};

static const char file_suffix[] = "_FILE";
static const char postfix_prefix[] = "POSTFIX_";
static const char swiftdrop_prefix[] = "SWIFTDROP_";

struct reader {
	struct environment *environment; /* borrowed */
	environment_read_fn *read_file;
	struct buf *faults; /* borrowed */
};

static int take(struct reader *r, const char *variable);
static int take_named(struct reader *r, const char *name, const char *value);
static int take_postfix(struct reader *r, const char *name, const char *value);
static int take_swiftdrop(struct reader *r, const char *name,
    const char *value);
static int resolve(struct reader *r, const char *name, const char *value,
    bool is_file, char **resolved);
static const char *check(const struct buf *text);
static int add_pair(struct reader *r, struct pairs *pairs,
    const struct pair *pair);
static bool has_suffix(const char *text, size_t len, const char *suffix);

int
environment_load(struct environment *e, char *const *environment,
    environment_read_fn *read_file, struct buf *faults)
{
	struct reader r = { e, read_file, faults };
	size_t i;

	*e = (struct environment){ .postfix = { NULL, 0 } };
	for (i = 0; environment[i] != NULL; i++)
		if (take(&r, environment[i]) == -1)
			return -1;
	return 0;
}

/* Takes one NAME=value; those that do not mean us are passed over. */
static int
take(struct reader *r, const char *variable)
{
	const char *value;
	char *name;
	int result;

	value = strchr(variable, '=');
	if (value == NULL)
		return 0;
	name = strndup(variable, (size_t)(value - variable));
	if (name == NULL)
		return -1;
	value++;
	if (strncmp(name, postfix_prefix, sizeof(postfix_prefix) - 1) == 0)
		result = take_postfix(r, name, value);
	else if (strncmp(name, swiftdrop_prefix,
		     sizeof(swiftdrop_prefix) - 1) == 0)
		result = take_swiftdrop(r, name, value);
	else
		result = take_named(r, name, value);
	free(name);
	return result;
}

static int
take_named(struct reader *r, const char *name, const char *value)
{
	char *resolved;
	size_t i, len;
	bool is_file;

	is_file = false;
	for (i = 0; i < VAR_COUNT; i++) {
		len = strlen(names[i]);
		if (strncmp(name, names[i], len) != 0)
			continue;
		is_file = strcmp(name + len, file_suffix) == 0;
		if (name[len] == '\0' || is_file)
			break;
	}
	/* An empty variable is one that is not set: compose files have such. */
	if (i == VAR_COUNT || *value == '\0')
		return 0;
	if (resolve(r, name, value, is_file, &resolved) == -1)
		return -1;
	if (*resolved == '\0') {
		/* A file of nothing, or a fault that was told. */
		free(resolved);
		return 0;
	}
	if (r->environment->values[i] == NULL) {
		r->environment->values[i] = resolved;
		return 0;
	}
	environment_fault(r->faults, names[i],
	    "is given twice, with and without _FILE; keep one of them");
	free(resolved);
	return 0;
}

/*
 * Parameters are in lower case.  What is not (POSTFIX_SERVICE_HOST,
 * POSTFIX_PORT_25_TCP) Kubernetes makes up for a service of that name.
 */
static int
take_postfix(struct reader *r, const char *name, const char *value)
{
	struct pair pair;
	const char *parameter;
	size_t i, len;
	bool is_file;
	int result;

	parameter = name + sizeof(postfix_prefix) - 1;
	len = strlen(parameter);
	is_file = has_suffix(parameter, len, file_suffix);
	if (is_file)
		len -= sizeof(file_suffix) - 1;
	for (i = 0; i < len; i++)
		if (isupper((unsigned char)parameter[i]))
			return 0;
	for (i = 0; i < len; i++)
		if (!isalnum((unsigned char)parameter[i]) &&
		    parameter[i] != '_')
			break;
	if (i < len || len == 0) {
		environment_fault(r->faults, name,
		    "is not the name of a Postfix parameter");
		return 0;
	}
	pair = (struct pair){ strndup(parameter, len), NULL };
	result = -1;
	if (pair.name != NULL &&
	    resolve(r, name, value, is_file, &pair.value) == 0)
		result = add_pair(r, &r->environment->postfix, &pair);
	free(pair.name);
	free(pair.value);
	return result;
}

/* The accounts' variables; see swiftdrop.ini(5) for those passed over. */
static int
take_swiftdrop(struct reader *r, const char *name, const char *value)
{
	struct pair pair;
	size_t len;
	bool is_file;
	int result;

	if (strncmp(name, "SWIFTDROP_SERVICE_", 18) == 0 ||
	    strncmp(name, "SWIFTDROP_PORT", 14) == 0)
		return 0;
	len = strlen(name);
	is_file = has_suffix(name, len, file_suffix) && *value != '\0';
	if (is_file)
		len -= sizeof(file_suffix) - 1;
	pair = (struct pair){ strndup(name, len), NULL };
	result = -1;
	if (pair.name != NULL &&
	    resolve(r, name, value, is_file, &pair.value) == 0)
		result = add_pair(r, &r->environment->swiftdrop, &pair);
	free(pair.name);
	free(pair.value);
	return result;
}

/*
 * Makes *resolved (the caller's) the value itself, or what the file of that
 * name holds, one newline at its end dropped; "" after a fault.
 */
static int
resolve(struct reader *r, const char *name, const char *value, bool is_file,
    char **resolved)
{
	struct buf text;
	const char *reason;
	int result;

	buf_init(&text, VALUE_MAX);
	reason = NULL;
	result =
	    is_file ? r->read_file(value, &text) : buf_add_text(&text, value);
	if (result == -1) {
		reason = errno == EMSGSIZE ? "is too large" : strerror(errno);
		environment_fault(r->faults, name, "%s%s%s",
		    is_file ? value : "", is_file ? ": " : "", reason);
	} else {
		if (is_file && text.len > 0 && text.data[text.len - 1] == '\n')
			buf_cut(&text, text.len - 1);
		reason = check(&text);
		if (reason != NULL)
			environment_fault(r->faults, name, "%s", reason);
	}
	*resolved = strdup(reason == NULL ? buf_text(&text) : "");
	buf_free(&text);
	return *resolved == NULL ? -1 : 0;
}

/* What is wrong with a value, whatever it is for. */
static const char *
check(const struct buf *text)
{
	size_t i;

	if (!utf8_is_valid(buf_text(text), text->len))
		return "is not text in UTF-8";
	for (i = 0; i < text->len; i++)
		if (((unsigned char)text->data[i] < ' ' &&
			strchr("\t\n\r", text->data[i]) == NULL) ||
		    text->data[i] == '\0' || text->data[i] == 0x7f)
			return "holds a control character";
	return NULL;
}

/* Appends a copy of both, but for a name that is there already. */
static int
add_pair(struct reader *r, struct pairs *pairs, const struct pair *pair)
{
	if (!pairs_have(pairs, pair->name))
		return pairs_add(pairs, pair->name, pair->value);
	environment_fault(r->faults, pair->name,
	    "is given twice, with and without _FILE or in two "
	    "spellings; keep one of them");
	return 0;
}

static bool
has_suffix(const char *text, size_t len, const char *suffix)
{
	size_t n;

	n = strlen(suffix);
	return len > n && strcmp(text + len - n, suffix) == 0;
}

int
environment_read_file(const char *path, struct buf *text)
{
	char chunk[1024];
	ssize_t n;
	int fd, saved;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd == -1)
		return -1;
	while ((n = read(fd, chunk, sizeof(chunk))) > 0) {
		if (buf_add(text, chunk, (size_t)n) == 0)
			continue;
		n = -1;
		break;
	}
	saved = errno;
	explicit_bzero(chunk, sizeof(chunk));
	(void)close(fd);
	errno = saved;
	return n == -1 ? -1 : 0;
}

void
environment_free(struct environment *e)
{
	size_t i;

	for (i = 0; i < VAR_COUNT; i++)
		free(e->values[i]);
	pairs_free(&e->postfix);
	pairs_free(&e->swiftdrop);
}

const char *
environment_name(enum variable v)
{
	return names[v];
}

void
environment_fault(struct buf *faults, const char *name, const char *format, ...)
{
	va_list args;

	/* A list that is full already says enough. */
	(void)buf_addf(faults, "%s: ", name);
	va_start(args, format);
	(void)buf_vaddf(faults, format, args);
	va_end(args);
	(void)buf_add_octet(faults, '\n');
}

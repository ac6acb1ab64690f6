/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The variables that mean us.  What their values must look like is
 * settings.c's affair; here is only what is the same for all: NAME_FILE,
 * and text without control characters.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "environment.h"
#include "file.h"
#include "log.h"
#include "text.h"

#include "banned.h"

enum {
	NAME_LIMIT = 128 * 1024, /* octets; the kernel's MAX_ARG_STRLEN */
	VALUE_MAX = 1024 * 1024  /* octets; ten thousands of addresses */
};

static const char *const names[] = { "MYHOSTNAME", "MYDOMAIN", "RECIPIENTS",
	"FORWARDS", "POSTMASTER", "UPSTREAM_PROXY_PROTOCOL", "DEBUG",
	"MESSAGE_SIZE_LIMIT", "MAX_PROCESSES", "TLS_CERT_FILE", "TLS_KEY_FILE",
	"STARTUP_CHECK", "DRAIN_TIMEOUT", "LOGIN_INTERVAL", "ERRORMAIL",
	"LOG_FORMAT" };

void
environment_fault(struct buf *faults, const char *name, const char *format, ...)
{
	size_t i, begin = faults->len;
	va_list args;

	/* A variable's name may hold anything but = and NUL. */
	log_printable(faults, name, strlen(name), strlen(name));
	buf_adds(faults, ": ");
	va_start(args, format);
	buf_vaddf(faults, format, args);
	va_end(args);
	/* A value may have lines, what is said of it has not. */
	for (i = begin; i < faults->len; i++)
		if (is_control(faults->data[i]))
			faults->data[i] = '?';
	buf_addc(faults, '\n');
}

const char *
environment_get(const struct environment *e, const char *name)
{
	const char *value = table_get(&e->variables, name);

	return value == NULL || *value == '\0' ? NULL : value;
}

/* What is wrong with a value, whatever it is for, or NULL. */
static const char *
check(const struct buf *text)
{
	size_t i;

	if (text->error != 0)
		return "is too large";
	if (!utf8_is_valid(buf_text(text), text->len))
		return "is not text in UTF-8";
	for (i = 0; i < text->len; i++)
		if (text->data[i] == '\0' ||
		    (is_control(text->data[i]) &&
			strchr("\t\n\r", text->data[i]) == NULL))
			return "holds a control character";
	return NULL;
}

/*
 * Takes the value of a variable, or what the file of that name holds less one
 * newline at its end.  What is empty is no second form beside its other.
 */
static void
add(struct environment *e, const char *name, const char *variable,
    const char *value, struct buf *faults)
{
	bool is_file = strcmp(name, variable) != 0;
	const char *old, *reason;
	BUF(text, VALUE_MAX);

	if (is_file && *value == '\0')
		return;
	if (is_file && file_read(value, &text, NULL) == -1) {
		environment_fault(faults, variable, "%s: %s", value,
		    errno == EMSGSIZE ? "is too large" : strerror(errno));
		return;
	}
	if (!is_file)
		buf_adds(&text, value);
	else if (text.len > 0 && text.data[text.len - 1] == '\n')
		buf_cut(&text, text.len - 1);
	reason = check(&text);
	old = environment_get(e, name);
	if (reason != NULL)
		environment_fault(faults, variable, "%s", reason);
	else if (old == NULL)
		table_set(&e->variables, name, buf_text(&text));
	else if (text.len > 0)
		environment_fault(faults, name,
		    "is given twice, with and without _FILE; keep one of "
		    "them");
}

static bool
begins(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Whether a variable holds a value of ours, not the name of a file with it. */
static bool
is_value(const char *variable)
{
	size_t i, len = strlen(variable);

	if (begins(variable, "POSTFIX_"))
		return len > 8 && strcmp(variable + len - 5, "_FILE") != 0;
	/* A secret's file is config_load()'s to read, and to find fault with. */
	if (begins(variable, "SWIFTDROP_"))
		return config_is_key(variable);
	for (i = 0; i < COUNT(names); i++)
		if (strcmp(names[i], variable) == 0)
			return true;
	return false;
}

/* Whether one octet more, less or other, or only the case, sets them apart. */
static bool
is_near(const char *a, const char *b)
{
	size_t a_len = strlen(a), b_len = strlen(b), head, n, tail;

	n = a_len < b_len ? a_len : b_len;
	for (head = 0; head < n; head++)
		if (ascii_lower(a[head]) != ascii_lower(b[head]))
			break;
	for (tail = 0; tail < n - head; tail++)
		if (ascii_lower(a[a_len - tail - 1]) !=
		    ascii_lower(b[b_len - tail - 1]))
			break;
	return a_len - head - tail <= 1 && b_len - head - tail <= 1;
}

/* Warns of what is nearly one of ours, by itself or less _FILE. */
static void
look_near(const char *variable, const char *stem, struct buf *warnings)
{
	size_t i;

	for (i = 0; i < COUNT(names); i++)
		if (is_near(names[i], variable) || is_near(names[i], stem)) {
			environment_fault(warnings, variable,
			    "is not read; should it be %s?", names[i]);
			return;
		}
}

/* NAME=value */
static void
take(struct environment *e, const char *text, struct buf *faults,
    struct buf *warnings)
{
	BUF(variable, NAME_LIMIT);
	BUF(stem, NAME_LIMIT);
	const char *name, *value = strchr(text, '=');

	if (value == NULL)
		return;
	buf_add(&variable, text, (size_t)(value++ - text));
	name = buf_text(&variable);
	if (variable.len > 5 && strcmp(name + variable.len - 5, "_FILE") == 0)
		buf_add(&stem, name, variable.len - 5);
	buf_fail(faults, variable.error | stem.error);
	if (!is_value(name) && is_value(buf_text(&stem)))
		add(e, buf_text(&stem), name, value, faults);
	else if (is_value(name) || begins(name, "POSTFIX_") ||
		 begins(name, "SWIFTDROP_"))
		add(e, name, name, value, faults);
	else
		look_near(name, buf_text(&stem), warnings);
}

void
environment_load(struct environment *e, char *const *environment,
    struct buf *faults, struct buf *warnings)
{
	char **all;
	size_t i;

	*e = (struct environment){ .variables = { .n = 0 } };
	/* All but what is made up for services of our name. */
	all = config_variables(environment, "");
	for (i = 0; all != NULL && all[i] != NULL; i++)
		take(e, all[i], faults, warnings);
	buf_fail(faults, all == NULL ? ENOMEM : e->variables.error);
	free(all);
}

void
environment_free(struct environment *e)
{
	table_free(&e->variables);
}

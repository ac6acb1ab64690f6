/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The variables that mean us.  What their values must look like is
 * settings.c's affair; here is only what is the same for all: NAME_FILE,
 * and text without control characters.
 */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "environment.h"
#include "file.h"
#include "text.h"

#include "banned.h"

enum {
	NAME_LIMIT = 128 * 1024, /* octets; the kernel's MAX_ARG_STRLEN */
	VALUE_MAX = 1024 * 1024, /* octets; ten thousands of addresses */
	WARNINGS_MAX = 16 * 1024 /* octets */
};

static const char *const names[] = { "MYHOSTNAME", "MYDOMAIN", "RECIPIENTS",
	"FORWARDS", "POSTMASTER", "UPSTREAM_PROXY_PROTOCOL", "DEBUG",
	"MESSAGE_SIZE_LIMIT", "MAX_PROCESSES", "TLS_CERT_FILE", "TLS_KEY_FILE",
	"STARTUP_CHECK", "DRAIN_TIMEOUT" };

/* A variable and what it stands for. */
struct variable {
	struct buf name;
	struct buf stem; /* the name less _FILE; empty where it has none */
	const char *value;
};

void
environment_fault(struct buf *faults, const char *name, const char *format, ...)
{
	va_list args;

	buf_addf(faults, "%s: ", name);
	va_start(args, format);
	buf_vaddf(faults, format, args);
	va_end(args);
	buf_addc(faults, '\n');
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
 * Adds the value to a table, or what the file of that name holds less one
 * newline at its end.  An empty one is no second form beside its other.
 */
static void
add(struct table *t, const struct variable *v, const char *name, bool is_file,
    struct buf *faults)
{
	const char *old, *reason;
	BUF(text, VALUE_MAX);

	if (is_file && file_read(v->value, &text, NULL) == -1) {
		environment_fault(faults, buf_text(&v->name), "%s: %s",
		    v->value,
		    errno == EMSGSIZE ? "is too large" : strerror(errno));
		return;
	}
	if (!is_file)
		buf_adds(&text, v->value);
	else if (text.len > 0 && text.data[text.len - 1] == '\n')
		buf_cut(&text, text.len - 1);
	reason = check(&text);
	old = table_get(t, name);
	if (reason != NULL)
		environment_fault(faults, buf_text(&v->name), "%s", reason);
	else if (old == NULL || *old == '\0')
		table_set(t, name, buf_text(&text));
	else if (text.len > 0)
		environment_fault(faults, name,
		    "is given twice, with and without _FILE; keep one of "
		    "them");
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

static void
take_named(struct environment *e, const struct variable *v, struct buf *faults)
{
	size_t i, near;
	bool is_file;

	near = COUNT(names);
	for (i = 0; i < COUNT(names); i++) {
		is_file = strcmp(names[i], buf_text(&v->stem)) == 0;
		if (is_file || strcmp(names[i], buf_text(&v->name)) == 0) {
			if (*v->value != '\0')
				add(&e->named, v, names[i], is_file, faults);
			return;
		}
		if (is_near(names[i], buf_text(&v->name)) ||
		    is_near(names[i], buf_text(&v->stem)))
			near = i;
	}
	if (near < COUNT(names))
		environment_fault(&e->warnings, buf_text(&v->name),
		    "is not read; should it be %s?", names[near]);
}

static void
take_postfix(struct environment *e, const struct variable *v,
    struct buf *faults)
{
	/* POSTFIX_FILE has no room for a parameter. */
	bool is_file = v->stem.len >= 8 && *v->value != '\0';
	const char *p, *parameter;

	parameter = buf_text(is_file ? &v->stem : &v->name) + 8;
	for (p = parameter; isalnum((unsigned char)*p) || *p == '_'; p++)
		;
	if (*p != '\0' || p == parameter)
		environment_fault(faults, buf_text(&v->name),
		    "is not the name of a Postfix parameter");
	else
		add(&e->postfix, v, parameter, is_file, faults);
}

/* A secret's file is config_load()'s to read, and to find fault with. */
static void
take_swiftdrop(struct environment *e, const struct variable *v,
    struct buf *faults)
{
	bool is_file;

	is_file = *v->value != '\0' &&
		  !config_is_key(buf_text(&v->name)) &&
		  config_is_key(buf_text(&v->stem));
	add(&e->swiftdrop, v, buf_text(is_file ? &v->stem : &v->name), is_file,
	    faults);
}

typedef void take_fn(struct environment *e, const struct variable *v,
    struct buf *faults);

/* Hands one NAME=value over. */
static void
take(struct environment *e, const char *text, take_fn *taker,
    struct buf *faults)
{
	struct variable v = { { .max = NAME_LIMIT }, { .max = NAME_LIMIT },
		strchr(text, '=') };

	if (v.value == NULL)
		return;
	buf_add(&v.name, text, (size_t)(v.value++ - text));
	if (v.name.len > 5 &&
	    strcmp(buf_text(&v.name) + v.name.len - 5, "_FILE") == 0)
		buf_add(&v.stem, text, v.name.len - 5);
	if (v.name.error != 0 || v.stem.error != 0)
		environment_fault(faults, "environment", "%s",
		    strerror(ENOMEM));
	else
		taker(e, &v, faults);
	buf_free(&v.name);
	buf_free(&v.stem);
}

static void
take_prefix(struct environment *e, char *const *environment, const char *prefix,
    take_fn *taker, struct buf *faults)
{
	char **ours;
	size_t i;

	ours = config_variables(environment, prefix);
	for (i = 0; ours != NULL && ours[i] != NULL; i++)
		take(e, ours[i], taker, faults);
	if (ours == NULL)
		environment_fault(faults, "environment", "%s",
		    strerror(ENOMEM));
	free(ours);
}

void
environment_load(struct environment *e, char *const *environment,
    struct buf *faults)
{
	size_t i;

	*e = (struct environment){ .warnings = { .max = WARNINGS_MAX } };
	for (i = 0; environment[i] != NULL; i++)
		take(e, environment[i], take_named, faults);
	take_prefix(e, environment, "POSTFIX_", take_postfix, faults);
	take_prefix(e, environment, "SWIFTDROP_", take_swiftdrop, faults);
	if (e->named.error != 0 || e->postfix.error != 0 ||
	    e->swiftdrop.error != 0)
		environment_fault(faults, "environment", "%s",
		    strerror(ENOMEM));
}

const char *
environment_get(const struct environment *e, const char *name)
{
	const char *value = table_get(&e->named, name);

	return value == NULL || *value == '\0' ? NULL : value;
}

void
environment_free(struct environment *e)
{
	table_free(&e->named);
	table_free(&e->postfix);
	table_free(&e->swiftdrop);
	buf_free(&e->warnings);
}

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
	VALUE_MAX = 1024 * 1024  /* octets; ten thousands of addresses */
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

static void
take_named(struct environment *e, const struct variable *v, struct buf *faults)
{
	size_t i;
	bool is_file;

	for (i = 0; i < COUNT(names) && *v->value != '\0'; i++) {
		is_file = strcmp(names[i], buf_text(&v->stem)) == 0;
		if (is_file || strcmp(names[i], buf_text(&v->name)) == 0)
			add(&e->named, v, names[i], is_file, faults);
	}
}

/*
 * Parameters are in lower case.  What is not (POSTFIX_SERVICE_HOST,
 * POSTFIX_PORT_25_TCP) Kubernetes makes up for a service of that name.
 */
static void
take_postfix(struct environment *e, const struct variable *v,
    struct buf *faults)
{
	/* POSTFIX_FILE has no room for a parameter. */
	bool is_file = v->stem.len >= 8 && *v->value != '\0';
	const char *p, *parameter;

	parameter = buf_text(is_file ? &v->stem : &v->name) + 8;
	for (p = parameter; *p != '\0'; p++)
		if (isupper((unsigned char)*p))
			return;
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
		  !config_is_key(buf_text(&v->name), v->name.len) &&
		  config_is_key(buf_text(&v->stem), v->stem.len);
	add(&e->swiftdrop, v, buf_text(is_file ? &v->stem : &v->name), is_file,
	    faults);
}

/* Takes one NAME=value. */
static void
take(struct environment *e, const char *text, bool is_swiftdrop,
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
	else if (is_swiftdrop)
		take_swiftdrop(e, &v, faults);
	else if (strncmp(text, "POSTFIX_", 8) == 0)
		take_postfix(e, &v, faults);
	else
		take_named(e, &v, faults);
	buf_free(&v.name);
	buf_free(&v.stem);
}

void
environment_load(struct environment *e, char *const *environment,
    struct buf *faults)
{
	char **ours;
	size_t i;

	*e = (struct environment){ .named = { .n = 0 } };
	for (i = 0; environment[i] != NULL; i++)
		take(e, environment[i], false, faults);
	ours = config_variables(environment);
	for (i = 0; ours != NULL && ours[i] != NULL; i++)
		take(e, ours[i], true, faults);
	if (ours == NULL || e->named.error != 0 || e->postfix.error != 0 ||
	    e->swiftdrop.error != 0)
		environment_fault(faults, "environment", "%s",
		    strerror(ENOMEM));
	free(ours);
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
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The variables that mean us: which of environ(7) they are, and the files
 * that hold the value of some.
 */
#ifndef ENVIRONMENT_H
#define ENVIRONMENT_H

#include <stddef.h>

#include "buf.h"
#include "list.h"

/* The variables with a name of their own; the order is that of names[]. */
enum variable {
	VAR_MYHOSTNAME,
	VAR_MYDOMAIN,
	VAR_RECIPIENTS,
	VAR_FORWARDS,
	VAR_POSTMASTER,
	VAR_UPSTREAM_PROXY_PROTOCOL,
	VAR_DEBUG,
	VAR_MESSAGE_SIZE_LIMIT,
	VAR_MAX_PROCESSES,
	VAR_TLS_CERT_FILE,
	VAR_TLS_KEY_FILE,
	VAR_STARTUP_CHECK,
	VAR_DRAIN_TIMEOUT,
	VAR_COUNT
};

struct environment {
	char *values[VAR_COUNT]; /* owned; NULL where not set or empty */
	struct pairs postfix;    /* parameter and value */
	struct pairs swiftdrop;  /* the variable's full name and value */
};

/*
 * Appends what the file at path holds to *text.  Returns 0, or -1 with errno,
 * EMSGSIZE when it is larger than the buffer may become.
 */
typedef int environment_read_fn(const char *path, struct buf *text);

/* Such a function, that reads real files. */
environment_read_fn environment_read_file;

/*
 * Picks our variables out of environment (as environ(7), borrowed) and reads
 * the files of those given as NAME_FILE with read_file.  Every fault is one
 * line in *faults that starts with the variable's name.  Returns 0, or -1
 * with errno ENOMEM.  environment_free() is needed in every case.
 */
int environment_load(struct environment *e, char *const *environment,
    environment_read_fn *read_file, struct buf *faults);

/* Wipes and frees all. */
void environment_free(struct environment *e);

/* The name of a variable. */
const char *environment_name(enum variable v);

/* Adds one line to *faults: "name: " and the text. */
void environment_fault(struct buf *faults, const char *name, const char *format,
    ...) __attribute__((format(printf, 3, 4)));

#endif

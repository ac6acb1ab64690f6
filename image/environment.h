/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The variables that mean us: which of environ(7) they are, and the files
 * that hold the value of some.
 */
#ifndef ENVIRONMENT_H
#define ENVIRONMENT_H

#include "buf.h"
#include "table.h"

struct environment {
	struct table variables; /* full names, less _FILE where that was read */
};

/*
 * Picks our variables out of environment (as environ(7), borrowed) and reads
 * the files of those given as NAME_FILE; those of the filter's own secrets
 * are left to config_load().  Every fault is one line in *faults that starts
 * with the variable's name; a name that is nearly ours is one in *warnings.
 * environment_free() is needed in every case.
 */
void environment_load(struct environment *e, char *const *environment,
    struct buf *faults, struct buf *warnings);

/* Wipes and frees all. */
void environment_free(struct environment *e);

/* The value of a variable; NULL where not set or "". */
const char *environment_get(const struct environment *e, const char *name);

/* Adds one line to *faults: "name: " and the text. */
void environment_fault(struct buf *faults, const char *name, const char *format,
    ...) __attribute__((format(printf, 3, 4)));

#endif

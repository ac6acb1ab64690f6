/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The log: one line per event, a verb and key=value pairs as Postfix writes
 * them, to the journal, syslog, Postfix's postlogd or stderr.
 *
 * The log's target is the program's only mutable global.  Nothing here fails
 * to the caller's knowledge and no call blocks longer than a second: a line
 * that cannot be written is dropped, mail is not held up for it.
 */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"

enum log_verb {
	LOG_STORED,
	LOG_DEFERRED,
	LOG_REJECTED,
	LOG_FORWARDED,
	LOG_IN_DOUBT,
	LOG_LOST,
	LOG_CONFIG, /* a broken or doubtful configuration or start */
	LOG_ACCOUNT /* an account's fault */
};

enum log_level {
	LOG_LEVEL_ERROR = 3,   /* an administrator must act */
	LOG_LEVEL_WARNING = 4, /* look at it */
	LOG_LEVEL_INFO = 6
};

enum {
	LOG_LINE_MAX = 3900, /* postlogd cuts at 4096 with its own head */
	LOG_FIELDS_MAX = 16384
};

/* A line under construction. */
struct log_line {
	enum log_verb verb;
	enum log_level level;
	struct buf text;   /* "verb: key=value, ..." */
	struct buf fields; /* "KEY=value" and a NUL, for the journal */
};

/*
 * Chooses where the log goes: target is a value of the configuration's "log".
 * stderr_is_free: descriptor 2 is not the client's.  Opens nothing yet.
 */
void log_open(const char *target, bool stderr_is_free);

/* Closes the log's socket. */
void log_close(void);

/*
 * What a line that is written to fd begins with where that is the journal, so
 * that it gets its priority ("<3>", sd-daemon(3)); else "".  After log_open().
 */
const char *log_prefix(int fd, enum log_level level);

/* Says why a subcommand fails: "swiftdrop: text" on stderr. */
void log_fault(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Whether text is a value that log_open() takes. */
bool log_is_target(const char *text);

/* Begins a line in the caller's storage; log_end() must follow. */
void log_begin(struct log_line *l, enum log_verb verb, enum log_level level);

/* Adds a pair; control characters in the value are escaped. */
void log_add(struct log_line *l, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same with the value in double quotes. */
void log_add_quoted(struct log_line *l, const char *key, const char *value);

/* Writes the line and frees it. */
void log_end(struct log_line *l);

/* Writes "text" under a verb, without pairs. */
void log_text(enum log_verb verb, enum log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * Appends at most max octets of a peer's text, everything that is not
 * printable US-ASCII as a question mark.
 */
void log_printable(struct buf *out, const char *text, size_t len, size_t max);

#endif

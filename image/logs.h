/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Everybody's log lines on the container's stdout: Postfix's come by syslog(3),
 * swiftdrop's as to postlogd(8), both by sockets here.
 */
#ifndef LOGS_H
#define LOGS_H

#include <stdbool.h>
#include <stddef.h>

#include "buf.h"

enum logs_source {
	LOGS_POSTFIX,
	LOGS_FILTER,
	LOGS_SOCKETS,
	LOGS_OWN = LOGS_SOCKETS
};

/*
 * Opens /dev/log for Postfix and LOG_PATH for the filter's group: -1 and a
 * line in *faults where one cannot be opened.
 */
void logs_open(int sockets[LOGS_SOCKETS], struct buf *faults);

/* Writes out what waits in a socket, not waiting for it; whether anything. */
bool logs_pass_on(int socket, enum logs_source source);

typedef void logs_watch_fn(void *context, enum logs_source source,
    const char *line);

/*
 * How lines are written from now on: with json, each as an object with MESSAGE,
 * process and pid, and what is JSON as it is.  watch, unless NULL, is shown
 * each, as text.
 */
void logs_set(bool json, logs_watch_fn *watch, void *context);

/* Writes a line of our own. */
void logs_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Writes each line of text as one of our own, after a word. */
void logs_say_lines(const char *word, const struct buf *text);

/*
 * Appends one line for stdout, made of a datagram: syslog(3)'s "<22>Mon DD
 * HH:MM:SS tag: text" gets the host's name, postlogd(8)'s form has it already;
 * what is a control character or no UTF-8 becomes '?'.
 */
void logs_line(const char *data, size_t len, const char *host,
    struct buf *line);

#endif

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Everybody's log lines on the container's stdout: Postfix's come there by
 * postlogd(8) once that runs, swiftdrop's and the early ones by sockets here.
 */
#ifndef LOGS_H
#define LOGS_H

#include <stddef.h>

#include "buf.h"

enum {
	LOGS_SOCKETS = 2
};

struct logs {
	int sockets[LOGS_SOCKETS]; /* owned; -1 where there is none */
};

/*
 * Opens /dev/log, for what comes before postlogd(8), and LOG_PATH for the
 * filter's group.  What fails is appended to *reason; the other socket may
 * serve all the same.
 */
void logs_open(struct logs *l, struct buf *reason);

/* Writes out what waits in a socket; never blocks on the socket. */
void logs_pass_on(int socket);

/* Writes a line of our own. */
void logs_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Writes each line of text as one of our own, after a word. */
void logs_say_lines(const char *word, const struct buf *text);

/*
 * Appends one line for stdout, made of a datagram: syslog(3)'s "<22>Mon DD
 * HH:MM:SS tag: text" gets the host's name, postlogd(8)'s form has it already;
 * what is not printable becomes '?'.
 */
void logs_line(const char *data, size_t len, const char *host,
    struct buf *line);

#endif

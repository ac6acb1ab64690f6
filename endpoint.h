/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Where the re-injection server listens.  No name is looked up: a filter that
 * waits for the DNS before it can hand a mail back is of no use.
 */
#ifndef ENDPOINT_H
#define ENDPOINT_H

#include <sys/socket.h>

#include <stddef.h>
#include <stdint.h>

struct endpoint {
	struct sockaddr_storage address;
	socklen_t length;
};

struct endpoints {
	struct endpoint at[2]; /* localhost is tried as IPv4, then as IPv6 */
	size_t n;
};

/*
 * Reads "IP:port", "[v6]:port", "localhost:port" or "unix:path".  Returns 0,
 * or -1 with errno EINVAL.
 */
int endpoint_parse(const char *text, struct endpoints *e);

/*
 * Connects a stream socket to the first that answers.  Returns a descriptor
 * (close-on-exec, blocking) that the caller closes, or -1 with errno, which
 * is ETIMEDOUT after deadline_ms, a clock_ms() time.
 */
int endpoint_connect(const struct endpoints *e, int64_t deadline_ms);

#endif

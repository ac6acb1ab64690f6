/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Where the re-injection server listens.
 */
#include <sys/un.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "endpoint.h"

#include "banned.h"

static int parse_unix(const char *path, struct endpoint *e);
static int parse_ip(const char *host, size_t len, unsigned int port,
    struct endpoint *e);
static int connect_one(const struct endpoint *e, int64_t deadline_ms);
static int await_connection(int fd, int64_t deadline_ms);

int
endpoint_parse(const char *text, struct endpoints *e)
{
	const char *colon;
	char *end;
	unsigned long port;
	size_t len;

	*e = (struct endpoints){ .n = 1 };
	errno = EINVAL;
	if (strncmp(text, "unix:", 5) == 0)
		return parse_unix(text + 5, &e->at[0]);
	colon = strrchr(text, ':');
	if (colon == NULL || colon[1] < '0' || colon[1] > '9')
		return -1;
	port = strtoul(colon + 1, &end, 10);
	if (*end != '\0' || port == 0 || port > 65535)
		return -1;
	len = (size_t)(colon - text);
	if (len == 9 && memcmp(text, "localhost", len) == 0) {
		e->n = 2;
		return parse_ip("127.0.0.1", 9, (unsigned int)port, e->at) ==
				   -1 ||
			       parse_ip("[::1]", 5, (unsigned int)port,
				   e->at + 1) == -1
			   ? -1
			   : 0;
	}
	return parse_ip(text, len, (unsigned int)port, &e->at[0]);
}

static int
parse_unix(const char *path, struct endpoint *e)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	size_t len;

	len = strlen(path);
	if (len == 0 || len >= sizeof(un.sun_path)) {
		errno = EINVAL;
		return -1;
	}
	memcpy(un.sun_path, path, len + 1);
	memcpy(&e->address, &un, sizeof(un));
	e->length = sizeof(un);
	return 0;
}

static int
parse_ip(const char *host, size_t len, unsigned int port, struct endpoint *e)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
	char text[INET6_ADDRSTRLEN];
	int brackets, valid;

	brackets = len > 2 && host[0] == '[' && host[len - 1] == ']';
	if (brackets) {
		host++;
		len -= 2;
	}
	valid = 0;
	if (len > 0 && len < sizeof(text)) {
		memcpy(text, host, len);
		text[len] = '\0';
		valid = brackets ? inet_pton(AF_INET6, text, &in6.sin6_addr)
				 : inet_pton(AF_INET, text, &in.sin_addr);
	}
	if (valid != 1) {
		errno = EINVAL;
		return -1;
	}
	in.sin_port = in6.sin6_port = htons((uint16_t)port);
	e->length = brackets ? sizeof(in6) : sizeof(in);
	memcpy(&e->address, brackets ? (void *)&in6 : (void *)&in, e->length);
	return 0;
}

int
endpoint_connect(const struct endpoints *e, int64_t deadline_ms)
{
	size_t i;
	int fd;

	fd = -1;
	for (i = 0; i < e->n && fd == -1; i++)
		fd = connect_one(&e->at[i], deadline_ms);
	return fd;
}

static int
connect_one(const struct endpoint *e, int64_t deadline_ms)
{
	int fd, flags, saved;

	fd = socket(e->address.ss_family,
	    SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1)
		return -1;
	if (connect(fd, (const struct sockaddr *)&e->address, e->length) == 0 ||
	    (errno == EINPROGRESS && await_connection(fd, deadline_ms) == 0)) {
		flags = fcntl(fd, F_GETFL);
		if (flags != -1 && fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) == 0)
			return fd;
	}
	saved = errno;
	(void)close(fd);
	errno = saved;
	return -1;
}

static int
await_connection(int fd, int64_t deadline_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t len;
	int error, n;

	do
		n = poll(&p, 1, clock_left_ms(deadline_ms));
	while (n == -1 && errno == EINTR);
	len = sizeof(error);
	error = ETIMEDOUT;
	if (n == 1 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == -1)
		error = errno;
	errno = error;
	return error == 0 ? 0 : -1;
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A store that costs nothing, to measure what is in front of it: answers each
 * PUT with 201 and the request's own ETag, everything else with 204 and a
 * token, and forgets what it got.
 *
 *	store		prints its port on 127.0.0.1, serves until it is killed
 */
#include <sys/socket.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum {
	HEAD_MAX = 32 * 1024, /* octets of a request's head */
	BODY_CHUNK = 64 * 1024,
	ETAG_MAX = 32 /* an MD5 */
};

static in_port_t port;

/* A header's value in head, "" where it has none; ended by CR. */
static const char *
header(const char *head, const char *name)
{
	const char *line;
	size_t len = strlen(name);

	for (line = strstr(head, "\r\n"); line != NULL;
	     line = strstr(line + 2, "\r\n"))
		if (strncasecmp(line + 2, name, len) == 0 &&
		    line[2 + len] == ':')
			return line + 3 + len + strspn(line + 3 + len, " ");
	return "\r";
}

/* Reads the body that follows n octets of it; whether it came. */
static int
drop_body(int fd, long left)
{
	char *chunk = malloc(BODY_CHUNK);
	ssize_t n;

	while (chunk != NULL && left > 0) {
		n = read(fd, chunk,
		    left < BODY_CHUNK ? (size_t)left : BODY_CHUNK);
		if (n <= 0)
			break;
		left -= n;
	}
	free(chunk);
	return left <= 0;
}

static int
answer(int fd, const char *head)
{
	const char *etag = header(head, "ETag");
	char text[1024];
	int len = (int)strcspn(etag, "\r");

	if (strncmp(head, "PUT ", 4) == 0)
		len = snprintf(text, sizeof(text),
		    "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n"
		    "ETag: %.*s\r\n\r\n",
		    len < ETAG_MAX ? len : ETAG_MAX, etag);
	else
		len = snprintf(text, sizeof(text),
		    "HTTP/1.1 204 No Content\r\nX-Auth-Token: token\r\n"
		    "X-Storage-Url: http://127.0.0.1:%u/v1/AUTH_bench\r\n\r\n",
		    port);
	return write(fd, text, (size_t)len) == len;
}

/* One connection: requests one after the other. */
static void *
serve(void *context)
{
	static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
	int fd = (int)(long)context;
	char *head = malloc(HEAD_MAX + 1), *end;
	size_t len = 0;
	ssize_t n;
	long left;

	while (head != NULL) {
		n = read(fd, head + len, HEAD_MAX - len);
		if (n <= 0)
			break;
		len += (size_t)n;
		head[len] = '\0';
		end = memmem(head, len, "\r\n\r\n", 4);
		if (end == NULL)
			continue;
		end += 4;
		left = strtol(header(head, "Content-Length"), NULL, 10);
		if (*header(head, "Expect") != '\r' &&
		    write(fd, go_on, sizeof(go_on) - 1) == -1)
			break;
		/* Nobody pipelines: what came behind the head is its body. */
		if (!drop_body(fd, left - (long)(head + len - end)) ||
		    !answer(fd, head))
			break;
		len = 0;
	}
	free(head);
	(void)close(fd);
	return NULL;
}

int
main(void)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	socklen_t size = sizeof(in);
	pthread_attr_t attr;
	pthread_t thread;
	int fd, listener, on = 1;

	(void)signal(SIGPIPE, SIG_IGN);
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener == -1 ||
	    bind(listener, (struct sockaddr *)&in, sizeof(in)) == -1 ||
	    listen(listener, 1024) == -1 ||
	    getsockname(listener, (struct sockaddr *)&in, &size) == -1 ||
	    pthread_attr_init(&attr) != 0 ||
	    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) != 0)
		return 1;
	port = ntohs(in.sin_port);
	if (printf("%u\n", port) < 0 || fflush(stdout) != 0)
		return 1;
	for (;;) {
		fd = accept(listener, NULL, NULL);
		if (fd == -1)
			continue;
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (pthread_create(&thread, &attr, serve, (void *)(long)fd) !=
		    0)
			(void)close(fd);
	}
}

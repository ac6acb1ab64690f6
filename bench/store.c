/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A store that costs nothing, to measure what is in front of it: answers each
 * PUT with 201 and the request's own ETag, everything else with 204 and a
 * token, and forgets what it got.
 *
 *	store		prints its port on 127.0.0.1, serves until it is killed
 *	store -p PORT	at that one
 *	store -s SECONDS answers each PUT and DELETE so late
 *	store FILE	keeps a line of each object that it has, before it says
 *			so, and of each that it is told to delete:
 *				PUT PATH OCTETS MD5 SHA256
 *				DELETE PATH
 *			SHA256 is that of what follows the first field, which
 *			is the Received of who brought it. 422 for an object
 *			that is not what its ETag says.
 *	store -f FAULT FILE	does it wrong once, with the tenth object:
 *			lose, damage, twice
 */
#include <sys/socket.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "digest.h"

enum {
	HEAD_MAX = 32 * 1024, /* octets of a request's head */
	BODY_CHUNK = 64 * 1024,
	ETAG_MAX = 32, /* an MD5 */
	FAULT_AT = 10
};

/* What of an object is kept, while it comes. */
struct object {
	struct digest *md5, *rest; /* NULL: nothing is kept */
	size_t octets;
	char before[2]; /* the last two of the first field */
	bool in_rest;
};

static in_port_t port;
static unsigned int late_s;
static const char *fault = "";
static FILE *kept;
static atomic_int objects;

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

static void
object_open(struct object *o)
{
	*o = (struct object){ .md5 = digest_open("MD5"),
		.rest = digest_open("SHA256") };
	if (o->md5 == NULL || o->rest == NULL)
		abort();
}

static void
object_add(struct object *o, const char *data, size_t len)
{
	if (o->md5 == NULL)
		return;
	digest_add(o->md5, data, len);
	o->octets += len;
	/* A line that does not begin with a blank ends the field above it. */
	for (; len > 0 && !o->in_rest; data++, len--) {
		if (memcmp(o->before, "\r\n", 2) == 0 && *data != ' ' &&
		    *data != '\t') {
			o->in_rest = true;
			break;
		}
		o->before[0] = o->before[1];
		o->before[1] = *data;
	}
	digest_add(o->rest, data, len);
}

/* Reads what is left of the body; whether it came. */
static bool
take_body(int fd, struct object *o, long left)
{
	char *chunk = malloc(BODY_CHUNK);
	ssize_t n;

	while (chunk != NULL && left > 0) {
		n = read(fd, chunk,
		    left < BODY_CHUNK ? (size_t)left : BODY_CHUNK);
		if (n <= 0)
			break;
		object_add(o, chunk, (size_t)n);
		left -= n;
	}
	free(chunk);
	return left <= 0;
}

/* Appends a line, at once, to FILE; the path is the request's without its query. */
static void
keep(const char *verb, const char *path, const char *rest)
{
	if (fprintf(kept, "%s %.*s%s\n", verb, (int)strcspn(path, "? "), path,
		rest) < 0)
		abort();
}

/* Ends the object; whether it is what its ETag says, and so was kept. */
static bool
object_keep(struct object *o, const char *head)
{
	const char *etag = header(head, "ETag"), *path = head + strlen("PUT ");
	char md5[DIGEST_MD5_HEX], rest[DIGEST_SHA256_HEX], text[256];
	bool at = ++objects == FAULT_AT;

	if (at && strcmp(fault, "damage") == 0)
		digest_add(o->rest, "x", 1);
	digest_hex(o->md5, md5);
	digest_hex(o->rest, rest);
	if (*etag != '\r' && strncmp(etag, md5, ETAG_MAX) != 0)
		return false;
	(void)snprintf(text, sizeof(text), " %zu %s %s", o->octets, md5, rest);
	if (at && strcmp(fault, "twice") == 0)
		keep("PUT", "/v1/AUTH_bench/mail/cur/again ", text);
	if (!at || strcmp(fault, "lose") != 0)
		keep("PUT", path, text);
	return true;
}

static bool
answer(int fd, const char *head, struct object *o)
{
	const char *etag = header(head, "ETag");
	bool is_put = strncmp(head, "PUT ", 4) == 0;
	char text[1024];
	int len = (int)strcspn(etag, "\r");

	if (o->md5 != NULL && !object_keep(o, head))
		len = snprintf(text, sizeof(text),
		    "HTTP/1.1 422 Unprocessable Entity\r\n"
		    "Content-Length: 0\r\n\r\n");
	else if (is_put)
		len = snprintf(text, sizeof(text),
		    "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n"
		    "ETag: %.*s\r\n\r\n",
		    len < ETAG_MAX ? len : ETAG_MAX, etag);
	else
		len = snprintf(text, sizeof(text),
		    "HTTP/1.1 204 No Content\r\nX-Auth-Token: token\r\n"
		    "X-Storage-Url: http://127.0.0.1:%u/v1/AUTH_bench\r\n\r\n",
		    port);
	if (kept != NULL && strncmp(head, "DELETE ", 7) == 0)
		keep("DELETE", head + 7, "");
	if (late_s > 0 && *head != 'G')
		(void)sleep(late_s);
	return write(fd, text, (size_t)len) == len;
}

/*
 * The request whose head of len octets ends at end, with what came behind it:
 * nobody pipelines, so that is its body.  Whether it was answered.
 */
static bool
request(int fd, const char *head, size_t len, const char *end)
{
	static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
	struct object o = { 0 };
	size_t here = len - (size_t)(end - head);
	long left = strtol(header(head, "Content-Length"), NULL, 10);

	if (*header(head, "Expect") != '\r' &&
	    write(fd, go_on, sizeof(go_on) - 1) == -1)
		return false;
	if (kept != NULL && strncmp(head, "PUT ", 4) == 0)
		object_open(&o);
	object_add(&o, end, here);
	if (take_body(fd, &o, left - (long)here))
		return answer(fd, head, &o);
	digest_hex(o.md5, NULL);
	digest_hex(o.rest, NULL);
	return false;
}

/* One connection: requests one after the other. */
static void *
serve(void *context)
{
	int fd = (int)(long)context;
	char *head = malloc(HEAD_MAX + 1), *end;
	size_t len = 0;
	ssize_t n;

	while (head != NULL) {
		n = read(fd, head + len, HEAD_MAX - len);
		if (n <= 0)
			break;
		len += (size_t)n;
		head[len] = '\0';
		end = memmem(head, len, "\r\n\r\n", 4);
		if (end == NULL)
			continue;
		if (!request(fd, head, len, end + 4))
			break;
		len = 0;
	}
	free(head);
	(void)close(fd);
	return NULL;
}

static void
options(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "p:s:f:")) != -1)
		if (c == 'p')
			port = (in_port_t)strtoul(optarg, NULL, 10);
		else if (c == 's')
			late_s = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 'f')
			fault = optarg;
		else
			exit(64);
	if (argv[optind] == NULL)
		return;
	kept = fopen(argv[optind], "ae");
	if (kept == NULL || setvbuf(kept, NULL, _IOLBF, 0) != 0)
		exit(1);
}

int
main(int argc, char **argv)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	socklen_t size = sizeof(in);
	pthread_attr_t attr;
	pthread_t thread;
	int fd, listener, on = 1;

	(void)signal(SIGPIPE, SIG_IGN);
	options(argc, argv);
	in.sin_port = htons(port);
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener == -1 ||
	    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ==
		-1 ||
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

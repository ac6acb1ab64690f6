/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The public port.  The process reads nothing from a client; it runs as
 * user postfix, because the socket of smtpd(8) is in private/.
 *
 * Source for the form in which a connection is handed over: pass_accept(3)
 * and recv_pass_attr(3) of Postfix.  An empty list of attributes leaves it to
 * smtpd(8) to ask the kernel, or the PROXY protocol, who the client is.
 */
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "environment.h"
#include "files.h"
#include "listener.h"
#include "logs.h"
#include "paths.h"
#include "stream.h"

#include "banned.h"

enum {
	BACKLOG = 511,
	PAUSE_MS = 20,      /* while Postfix starts, or has its hands full */
	PATIENCE_MS = 10000 /* for a connection to be taken, at the end */
};

static int
bind_port(const struct addrinfo *a)
{
	const int on = 1;
	int fd, saved;

	fd =
	    socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1)
		return -1;
	/* Not one for both: for inet_protocols=ipv4 its clients are no IPv4. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
	    (a->ai_family == AF_INET ||
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) ==
		    0) &&
	    bind(fd, a->ai_addr, a->ai_addrlen) == 0)
		return fd;
	saved = errno;
	(void)close(fd);
	errno = saved;
	return -1;
}

void
listener_bind(struct listener *l, int family, struct buf *faults)
{
	const struct addrinfo hints = { .ai_flags = AI_PASSIVE,
		.ai_family = family,
		.ai_socktype = SOCK_STREAM };
	struct addrinfo *a, *all = NULL;
	size_t i;

	if (getaddrinfo(NULL, "25", &hints, &all) != 0)
		environment_fault(faults, "port 25", "%s", strerror(ENOMEM));
	for (i = 0, a = all; a != NULL && i < LISTENER_SOCKETS;
	     i++, a = a->ai_next) {
		l->sockets[i] = bind_port(a);
		/* A host without IPv6 is none to complain about. */
		if (l->sockets[i] == -1 && errno != EAFNOSUPPORT &&
		    errno != EADDRNOTAVAIL)
			environment_fault(faults, "port 25", "%s%s",
			    strerror(errno),
			    errno == EACCES ? "; the capability "
					      "NET_BIND_SERVICE is missing"
					    : "");
	}
	freeaddrinfo(all);
}

/* Waits that long; whether the parent closed its end meanwhile. */
static bool
is_over(int control, int timeout_ms)
{
	struct pollfd poll_control = { .fd = control, .events = POLLIN };

	return poll(&poll_control, 1, timeout_ms) == 1;
}

/* Postfix is there when its socket is; files.c removed that of the past. */
static bool
wait_for_postfix(int control)
{
	struct stat st;

	while (stat(PASS_SOCKET, &st) == -1)
		if (is_over(control, PAUSE_MS))
			return false;
	return true;
}

/* The descriptor with one octet, then a list of attributes: its end alone. */
static int
send_client(int server, int client)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .space = { 0 } };
	struct iovec octet = { .iov_base = (char[]){ 0 }, .iov_len = 1 };
	struct msghdr message = { .msg_iov = &octet,
		.msg_iovlen = 1,
		.msg_control = control.space,
		.msg_controllen = sizeof(control.space) };

	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.header), &client, sizeof(client));
	if (sendmsg(server, &message, MSG_NOSIGNAL) == -1)
		return -1;
	return send(server, "", 1, MSG_NOSIGNAL) == 1 ? 0 : -1;
}

static int
hand_over(int client)
{
	int server, result, saved;

	server = stream_connect("unix:" PASS_SOCKET, clock_ms() + PAUSE_MS);
	if (server == -1)
		return -1;
	result = send_client(server, client);
	saved = errno;
	(void)close(server);
	errno = saved;
	return result;
}

/*
 * Accepts one connection and hands it over.  While all servers are busy and
 * their queue is full, further clients wait in the kernel's.
 */
static void
take(int socket, int control)
{
	int64_t deadline_ms = INT64_MAX;
	int client;

	client = accept(socket, NULL, NULL);
	if (client == -1) {
		/* Out of descriptors or memory: do not spin. */
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
		    errno == ENOBUFS)
			(void)is_over(control, PAUSE_MS);
		return;
	}
	while (hand_over(client) == -1 && clock_left_ms(deadline_ms) > 0) {
		if (errno != ETIMEDOUT && errno != ECONNREFUSED) {
			logs_say("%s: %s", PASS_SOCKET, strerror(errno));
			break;
		}
		if (deadline_ms != INT64_MAX)
			(void)poll(NULL, 0, PAUSE_MS);
		else if (is_over(control, PAUSE_MS))
			deadline_ms = clock_ms() + PATIENCE_MS;
	}
	(void)close(client);
}

static void
serve(const struct listener *l, int control)
{
	struct pollfd fds[LISTENER_SOCKETS + 1];
	size_t i;

	for (i = 0; i < LISTENER_SOCKETS; i++)
		fds[i] = (struct pollfd){ l->sockets[i], POLLIN, 0 };
	fds[LISTENER_SOCKETS] = (struct pollfd){ control, POLLIN, 0 };
	while (fds[LISTENER_SOCKETS].revents == 0) {
		if (poll(fds, LISTENER_SOCKETS + 1, -1) == -1)
			continue;
		for (i = 0; i < LISTENER_SOCKETS; i++)
			if ((fds[i].revents & POLLIN) != 0)
				take(fds[i].fd, control);
	}
}

static void
run(const struct listener *l, int control)
{
	size_t i;

	if (!wait_for_postfix(control))
		return;
	for (i = 0; i < LISTENER_SOCKETS; i++) {
		if (l->sockets[i] != -1 &&
		    listen(l->sockets[i], BACKLOG) == -1) {
			logs_say("port 25: %s", strerror(errno));
			return;
		}
	}
	logs_say("port 25 is open");
	serve(l, control);
}

static void
close_sockets(struct listener *l)
{
	size_t i;

	for (i = 0; i < LISTENER_SOCKETS; i++) {
		if (l->sockets[i] != -1)
			(void)close(l->sockets[i]);
		l->sockets[i] = -1;
	}
}

int
listener_start(struct listener *l)
{
	int ends[2];

	if (pipe(ends) == -1)
		return -1;
	l->pid = fork();
	if (l->pid == 0) {
		(void)close(ends[1]);
		(void)prctl(PR_SET_NAME, "listener");
		if (files_become(POSTFIX_ID) == 0)
			run(l, ends[0]);
		_exit(0);
	}
	(void)close(ends[0]);
	l->control = ends[1];
	close_sockets(l);
	return l->pid == -1 ? -1 : 0;
}

void
listener_close(struct listener *l)
{
	close_sockets(l);
	if (l->control != -1)
		(void)close(l->control);
	*l = (struct listener){ .sockets = { -1, -1 }, .control = -1 };
}

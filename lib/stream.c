/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Bounded CRLF lines and runs of octets over a pair of descriptors.
 *
 * The descriptors may be shared with other processes (a terminal, a pipe of
 * a shell), so they are left in blocking mode: poll(2) says when a call will
 * not block, sockets are used with MSG_DONTWAIT besides.
 */
#include <sys/socket.h>
#include <sys/un.h>

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "stream.h"

#include "banned.h"

enum {
	STREAM_LINGER_MS = 1000,   /* for the peer to read the last reply */
	STREAM_INPUT = 64 * 1024,  /* octets read ahead */
	STREAM_OUTPUT = 32 * 1024, /* octets that wait before they are sent */
	STREAM_BARE_LF_MS = 2000   /* grace for the rest of a broken line */
};

/* An address that is connected to. */
union endpoint {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
};

/* How many addresses an endpoint means: localhost is IPv4, then IPv6. */
static size_t
parse_endpoint(const char *text, union endpoint at[2])
{
	const struct in_addr v4 = { htonl(INADDR_LOOPBACK) };
	char host[INET6_ADDRSTRLEN];
	unsigned long number;
	const char *colon;
	in_port_t port;
	size_t len;
	char *end;

	if (strncmp(text, "unix:", 5) == 0) {
		len = strlen(text + 5);
		at->un = (struct sockaddr_un){ .sun_family = AF_UNIX };
		if (len == 0 || len >= sizeof(at->un.sun_path))
			return 0;
		memcpy(at->un.sun_path, text + 5, len);
		return 1;
	}
	colon = strrchr(text, ':');
	len = colon == NULL ? 0 : (size_t)(colon - text);
	if (len == 0 || len >= sizeof(host) || colon[1] < '0' || colon[1] > '9')
		return 0;
	number = strtoul(colon + 1, &end, 10);
	if (*end != '\0' || number == 0 || number > 65535)
		return 0;
	port = htons((uint16_t)number);
	memcpy(host, text, len);
	host[len] = '\0';
	at[0].in = (struct sockaddr_in){ AF_INET, port, v4, { 0 } };
	at[1].in6 = (struct sockaddr_in6){ .sin6_family = AF_INET6,
		.sin6_port = port,
		.sin6_addr = IN6ADDR_LOOPBACK_INIT };
	if (strcmp(host, "localhost") == 0)
		return 2;
	if (inet_pton(AF_INET, host, &at[0].in.sin_addr) == 1)
		return 1;
	if (host[0] != '[' || host[len - 1] != ']')
		return 0;
	host[len - 1] = '\0';
	at[0] = at[1];
	return inet_pton(AF_INET6, host + 1, &at[0].in6.sin6_addr) == 1;
}

bool
stream_is_endpoint(const char *text)
{
	union endpoint at[2];

	return parse_endpoint(text, at) > 0;
}

static int
connect_to(const char *endpoint, int type, int64_t deadline_ms)
{
	struct timeval wait;
	union endpoint at[2];
	size_t i, n;
	int fd, left_ms;

	n = parse_endpoint(endpoint, at);
	errno = EINVAL;
	for (i = 0; i < n; i++) {
		fd = socket(at[i].any.sa_family, type | SOCK_CLOEXEC, 0);
		if (fd == -1)
			return -1;
		/* The limit of connect(2), socket(7); 0 would be none. */
		left_ms = clock_left_ms(deadline_ms) + 1;
		wait =
		    (struct timeval){ left_ms / 1000, left_ms % 1000 * 1000 };
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait,
		    sizeof(wait));
		/* The longest form; the others' families know their own. */
		if (connect(fd, &at[i].any, sizeof(at[i].un)) == 0)
			return fd;
		/* As TCP and UNIX sockets say that the time is over. */
		if (errno == EINPROGRESS || errno == EAGAIN)
			errno = ETIMEDOUT;
		(void)close(fd);
	}
	return -1;
}

int
stream_connect(const char *endpoint, int64_t deadline_ms)
{
	return connect_to(endpoint, SOCK_STREAM, deadline_ms);
}

int
stream_datagram(const char *endpoint)
{
	return connect_to(endpoint, SOCK_DGRAM, clock_ms());
}

int
stream_init(struct stream *s, int in, int out, int stop)
{
	*s = (struct stream){
		.in = in,
		.out = out,
		.stop = stop,
		.pending = { .max = STREAM_OUTPUT },
	};
	s->data = malloc(STREAM_INPUT);
	return s->data == NULL ? -1 : 0;
}

void
stream_free(struct stream *s)
{
	free(s->data);
	s->data = NULL;
	buf_free(&s->pending);
}

/* Waits until fd can be read from or written to. */
static enum stream_status
wait_for(const struct stream *s, int fd, short events, int64_t deadline_ms)
{
	/* poll(2) passes over a descriptor of -1. */
	struct pollfd fds[2] = { { .fd = fd, .events = events },
		{ .fd = events == POLLIN ? s->stop : -1, .events = POLLIN } };
	int n;

	if (s->idle_ms > 0)
		deadline_ms = clock_within(s->idle_ms, deadline_ms);
	/* A peer that never pauses does not stretch the limit. */
	if (events == POLLIN && clock_left_ms(deadline_ms) == 0)
		return STREAM_TIMEOUT;
	do
		n = poll(fds, 2, clock_left_ms(deadline_ms));
	while (n == -1 && errno == EINTR);
	if (n == -1)
		return STREAM_END;
	if (n == 0)
		return STREAM_TIMEOUT;
	if (fds[1].revents != 0)
		return STREAM_STOP;
	return (fds[0].revents & POLLNVAL) != 0 ? STREAM_END : STREAM_OK;
}

/* One write that does not block once poll(2) has said POLLOUT. */
static ssize_t
send_some(int fd, const char *data, size_t len)
{
	ssize_t n = send(fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n != -1 || errno != ENOTSOCK)
		return n;
	/* A writable pipe takes this much at once (pipe(7)). */
	return write(fd, data, len < PIPE_BUF ? len : PIPE_BUF);
}

static enum stream_status
send_all(struct stream *s, const char *data, size_t len, int64_t deadline_ms)
{
	enum stream_status status;
	ssize_t n;

	while (len > 0) {
		status = wait_for(s, s->out, POLLOUT, deadline_ms);
		n = status == STREAM_OK ? send_some(s->out, data, len) : 0;
		if (n == -1 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0) {
			s->discard = true;
			buf_reset(&s->pending);
			return status == STREAM_OK ? STREAM_END : status;
		}
		data += n;
		len -= (size_t)n;
	}
	return STREAM_OK;
}

enum stream_status
stream_flush(struct stream *s, int64_t deadline_ms)
{
	enum stream_status status;

	status = send_all(s, s->pending.data, s->pending.len, deadline_ms);
	buf_reset(&s->pending);
	return status;
}

enum stream_status
stream_write(struct stream *s, const void *data, size_t len,
    int64_t deadline_ms)
{
	enum stream_status status;

	if (s->discard)
		return STREAM_OK;
	buf_add(&s->pending, data, len);
	if (s->pending.error == 0)
		return STREAM_OK;
	/* No room or no memory for it: what was written before goes first. */
	s->pending.error = 0;
	status = stream_flush(s, deadline_ms);
	return status == STREAM_OK ? send_all(s, data, len, deadline_ms)
				   : status;
}

/*
 * Reads more when all was taken.  Replies go out first: a client that waits
 * for one would never send what is waited for here.
 */
static enum stream_status
fill(struct stream *s, int64_t deadline_ms)
{
	enum stream_status status;
	ssize_t n;

	status = stream_flush(s, deadline_ms);
	if (status != STREAM_OK)
		return status;
	for (;;) {
		status = wait_for(s, s->in, POLLIN, deadline_ms);
		if (status != STREAM_OK)
			return status;
		n = read(s->in, s->data, STREAM_INPUT);
		if (n > 0) {
			s->start = 0;
			s->end = (size_t)n;
			return STREAM_OK;
		}
		if (n == 0 || (errno != EINTR && errno != EAGAIN))
			return STREAM_END;
	}
}

/* Reads more of a line.  Silence behind a bare LF is not waited for. */
static enum stream_status
fill_line(struct stream *s, bool bare_lf, int64_t deadline_ms)
{
	enum stream_status status;

	if (!bare_lf)
		return fill(s, deadline_ms);
	status = fill(s, clock_within(STREAM_BARE_LF_MS, deadline_ms));
	return status == STREAM_TIMEOUT ? STREAM_BARE_LF : status;
}

/*
 * Only CRLF ends a line (RFC 5321 section 2.3.8): what is refused is dropped
 * up to there, so that its tail is never read as a command of its own.
 */
enum stream_status
stream_read_line(struct stream *s, struct buf *line, size_t max,
    int64_t deadline_ms)
{
	char last = '\0', octet = '\0';
	enum stream_status status;
	bool bare_lf = false;
	size_t n;

	buf_reset(line);
	for (n = 0; last != '\r' || octet != '\n'; n++) {
		if (s->start == s->end) {
			status =
			    fill_line(s, bare_lf && octet == '\n', deadline_ms);
			if (status != STREAM_OK)
				return status;
		}
		last = octet;
		octet = s->data[s->start++];
		bare_lf |= octet == '\n' && last != '\r';
		/* One more than the limit: the CR is stored as well. */
		if (n <= max)
			buf_addc(line, octet);
	}
	if (bare_lf)
		return STREAM_BARE_LF;
	/* A line that there is no memory for is too long as well. */
	if (n - 2 > max || line->error != 0)
		return STREAM_TOO_LONG;
	buf_cut(line, n - 2);
	return STREAM_OK;
}

enum stream_status
stream_peek(struct stream *s, const char **data, size_t *len,
    int64_t deadline_ms)
{
	enum stream_status status = STREAM_OK;

	if (s->start == s->end)
		status = fill(s, deadline_ms);
	*data = s->data + s->start;
	*len = s->end - s->start;
	return status;
}

void
stream_take(struct stream *s, size_t len)
{
	s->start += len;
}

void
stream_linger(struct stream *s)
{
	int64_t deadline_ms = clock_ms() + STREAM_LINGER_MS;

	if (stream_flush(s, deadline_ms) != STREAM_OK ||
	    shutdown(s->out, SHUT_WR) == -1)
		return;
	s->stop = -1;
	do
		s->start = s->end;
	while (fill(s, deadline_ms) == STREAM_OK);
}

int64_t
stream_silence_ms(const struct stream *s)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	return getsockopt(s->in, IPPROTO_TCP, TCP_INFO, &info, &len) == 0
		   ? info.tcpi_last_data_recv
		   : 0;
}

bool
stream_is_quiet(const struct stream *s)
{
	struct pollfd fd = { .fd = s->in, .events = POLLIN };

	return s->start == s->end && poll(&fd, 1, 0) == 0;
}

bool
stream_peer_is_gone(const struct stream *s)
{
	struct pollfd fd = { .fd = s->out };

	return poll(&fd, 1, 0) == 1 && (fd.revents & (POLLERR | POLLHUP)) != 0;
}

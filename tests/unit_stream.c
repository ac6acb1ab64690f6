/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Lines and octets over a pair of sockets, with their limits and deadlines.
 */
#include <sys/socket.h>
#include <sys/un.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

#include "unit.h"

#include "clock.h"
#include "stream.h"

#include "banned.h"

enum {
	LINE_MAX_OCTETS = 5,
	SOON_MS = 50,
	LATER_MS = 5000
};

struct pair {
	struct stream stream;
	int ours, theirs;
};

static void
pair_open(struct pair *p)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	p->ours = fds[0];
	p->theirs = fds[1];
	assert_int_equal(stream_init(&p->stream, p->ours, p->ours, -1), 0);
}

static void
pair_close(struct pair *p)
{
	stream_free(&p->stream);
	(void)close(p->ours);
	if (p->theirs != -1)
		(void)close(p->theirs);
}

static void
say(const struct pair *p, const char *text, size_t len)
{
	assert_int_equal(write(p->theirs, text, len), len);
}

/* Each row: what comes, octet by octet as well, and each line's status. */
static void
only_crlf_ends_a_line(void **state)
{
	static const struct {
		const char *name, *in;
		enum stream_status status[3];
		const char *lines[3];
	} rows[] = {
		{ "two lines", "ab\r\ncd\r\n",
		    { STREAM_OK, STREAM_OK, STREAM_END }, { "ab", "cd" } },
		{ "empty line", "\r\n\r\n",
		    { STREAM_OK, STREAM_OK, STREAM_END }, { "", "" } },
		{ "at the limit", "abcde\r\nx\r\n",
		    { STREAM_OK, STREAM_OK, STREAM_END }, { "abcde", "x" } },
		{ "above it", "abcdef\r\nx\r\n",
		    { STREAM_TOO_LONG, STREAM_OK, STREAM_END }, { NULL, "x" } },
		{ "far above it", "abcdefghijklmnopq\r\nx\r\n",
		    { STREAM_TOO_LONG, STREAM_OK, STREAM_END }, { NULL, "x" } },
		{ "bare CR", "a\rb\r\nx\r\n",
		    { STREAM_OK, STREAM_OK, STREAM_END }, { "a\rb", "x" } },
		{ "two CR", "a\r\r\n", { STREAM_OK, STREAM_END, STREAM_END },
		    { "a\r" } },
		{ "bare LF", "a\nQUIT\r\nx\r\n",
		    { STREAM_BARE_LF, STREAM_OK, STREAM_END }, { NULL, "x" } },
		{ "LF first", "\n\r\n",
		    { STREAM_BARE_LF, STREAM_END, STREAM_END }, { NULL } },
		{ "cut", "ab\r\ncd\r", { STREAM_OK, STREAM_END, STREAM_END },
		    { "ab" } },
	};
	struct pair p;
	BUF(line, LINE_MAX_OCTETS + 2);
	size_t i, k;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		pair_open(&p);
		say(&p, rows[i].in, strlen(rows[i].in));
		assert_int_equal(shutdown(p.theirs, SHUT_WR), 0);
		for (k = 0; k < 3; k++) {
			unit_number(rows[i].name,
			    stream_read_line(&p.stream, &line, LINE_MAX_OCTETS,
				clock_ms() + LATER_MS),
			    rows[i].status[k]);
			if (rows[i].lines[k] != NULL)
				unit_text(rows[i].name, buf_text(&line),
				    rows[i].lines[k]);
		}
		pair_close(&p);
	}
}

static void
a_nul_is_an_octet_of_the_line(void **state)
{
	struct pair p;
	BUF(line, LINE_MAX_OCTETS + 2);

	(void)state;
	pair_open(&p);
	say(&p, "a\0b\r\n", 5);
	assert_int_equal(stream_read_line(&p.stream, &line, LINE_MAX_OCTETS,
			     clock_ms() + LATER_MS),
	    STREAM_OK);
	unit_octets("line", line.data, line.len, "a\0b", 3);
	pair_close(&p);
}

static void
silence_ends_at_the_deadline(void **state)
{
	struct pair p;
	BUF(line, LINE_MAX_OCTETS + 2);
	int64_t begun;

	(void)state;
	pair_open(&p);
	say(&p, "a", 1);
	begun = clock_ms();
	assert_int_equal(stream_read_line(&p.stream, &line, LINE_MAX_OCTETS,
			     begun + SOON_MS),
	    STREAM_TIMEOUT);
	assert_true(clock_ms() - begun >= SOON_MS);
	pair_close(&p);
}

/* A peer that ends its lines in LF waits for an answer that must come. */
static void
a_bare_lf_and_silence_is_reported_early(void **state)
{
	struct pair p;
	BUF(line, LINE_MAX_OCTETS + 2);
	int64_t begun;

	(void)state;
	pair_open(&p);
	say(&p, "NOOP\n", 5);
	begun = clock_ms();
	assert_int_equal(stream_read_line(&p.stream, &line, LINE_MAX_OCTETS,
			     begun + 60000),
	    STREAM_BARE_LF);
	assert_in_range(clock_ms() - begun, 1900, 20000);
	pair_close(&p);
}

static void
peek_shows_and_take_takes(void **state)
{
	struct pair p;
	const char *data;
	size_t len;

	(void)state;
	pair_open(&p);
	say(&p, "abc", 3);
	assert_int_equal(stream_peek(&p.stream, &data, &len,
			     clock_ms() + LATER_MS),
	    STREAM_OK);
	unit_octets("first", data, len, "abc", 3);
	stream_take(&p.stream, 2);
	assert_int_equal(stream_peek(&p.stream, &data, &len,
			     clock_ms() + LATER_MS),
	    STREAM_OK);
	unit_octets("rest", data, len, "c", 1);
	stream_take(&p.stream, 1);
	assert_int_equal(stream_peek(&p.stream, &data, &len,
			     clock_ms() + SOON_MS),
	    STREAM_TIMEOUT);
	assert_int_equal(shutdown(p.theirs, SHUT_WR), 0);
	assert_int_equal(stream_peek(&p.stream, &data, &len,
			     clock_ms() + LATER_MS),
	    STREAM_END);
	pair_close(&p);
}

static void
output_waits_until_it_is_flushed_or_input_is_wanted(void **state)
{
	struct pair p;
	BUF(line, LINE_MAX_OCTETS + 2);
	char got[8];

	(void)state;
	pair_open(&p);
	assert_int_equal(stream_write(&p.stream, "one", 3,
			     clock_ms() + LATER_MS),
	    STREAM_OK);
	assert_int_equal(recv(p.theirs, got, sizeof(got), MSG_DONTWAIT), -1);
	assert_int_equal(stream_flush(&p.stream, clock_ms() + LATER_MS),
	    STREAM_OK);
	assert_int_equal(recv(p.theirs, got, sizeof(got), MSG_DONTWAIT), 3);
	assert_int_equal(stream_write(&p.stream, "two", 3,
			     clock_ms() + LATER_MS),
	    STREAM_OK);
	assert_int_equal(stream_read_line(&p.stream, &line, LINE_MAX_OCTETS,
			     clock_ms() + SOON_MS),
	    STREAM_TIMEOUT);
	assert_int_equal(recv(p.theirs, got, sizeof(got), MSG_DONTWAIT), 3);
	assert_memory_equal(got, "two", 3);
	pair_close(&p);
}

/* The peer reads nothing: the write gives up, later ones are swallowed. */
static void
a_full_socket_ends_at_the_deadline(void **state)
{
	struct pair p;
	char *much;
	size_t len;

	(void)state;
	len = 8 * 1024 * 1024;
	much = calloc(1, len);
	assert_non_null(much);
	pair_open(&p);
	assert_int_equal(stream_write(&p.stream, much, len,
			     clock_ms() + SOON_MS),
	    STREAM_TIMEOUT);
	assert_true(p.stream.discard);
	assert_int_equal(stream_write(&p.stream, much, len,
			     clock_ms() + SOON_MS),
	    STREAM_OK);
	free(much);
	pair_close(&p);
}

static void
a_peer_is_gone_when_it_hung_up_not_when_it_stopped_sending(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p);
	assert_false(stream_peer_is_gone(&p.stream));
	say(&p, "next command", 12);
	assert_int_equal(shutdown(p.theirs, SHUT_WR), 0);
	assert_false(stream_peer_is_gone(&p.stream));
	assert_int_equal(close(p.theirs), 0);
	p.theirs = -1;
	assert_true(stream_peer_is_gone(&p.stream));
	pair_close(&p);
}

/* What was read and not taken, what can be read, and the end. */
static void
a_stream_is_quiet_when_nothing_came(void **state)
{
	struct pair p;
	const char *data;
	size_t len;

	(void)state;
	pair_open(&p);
	assert_true(stream_is_quiet(&p.stream));
	say(&p, "ab", 2);
	assert_false(stream_is_quiet(&p.stream));
	assert_int_equal(stream_peek(&p.stream, &data, &len,
			     clock_ms() + LATER_MS),
	    STREAM_OK);
	stream_take(&p.stream, 1);
	assert_false(stream_is_quiet(&p.stream));
	stream_take(&p.stream, 1);
	assert_true(stream_is_quiet(&p.stream));
	assert_int_equal(shutdown(p.theirs, SHUT_WR), 0);
	assert_false(stream_is_quiet(&p.stream));
	pair_close(&p);
}

static void
a_stop_ends_the_wait_for_input(void **state)
{
	struct pair p;
	const char *data;
	size_t len;
	int fds[2];

	(void)state;
	pair_open(&p);
	assert_int_equal(pipe(fds), 0);
	p.stream.stop = fds[0];
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(stream_peek(&p.stream, &data, &len,
			     clock_ms() + LATER_MS),
	    STREAM_STOP);
	(void)close(fds[0]);
	(void)close(fds[1]);
	pair_close(&p);
}

static void
endpoints_are_addresses_and_paths_never_names(void **state)
{
	static const char *const good[] = { "127.0.0.1:25", "[::1]:10026",
		"[2001:db8::1]:65535", "localhost:1", "0.0.0.0:00025",
		"unix:/run/s", "unix:s", "unix:a:b c" };
	static const char *const bad[] = { "", "127.0.0.1",
		"127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:25x",
		"127.0.0.1:+25", "127.0.0.1:-1", "127.0.0.1: 25",
		"127.0.0.1:99999999999999999999", "127.1:25", "256.0.0.1:25",
		" 127.0.0.1:25", "[::1]", "::1:25", "[::1:25", "[]:25",
		"[127.0.0.1]:25", "[::1]x:25", "[fe80::1%lo]:25",
		"mx.example:25", "Localhost:25", "localhost", ":25", "25",
		"unix:", "UNIX:/s", "tcp:127.0.0.1:25",
		"[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bb]:1" };
	BUF(path, 200);
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(good); i++)
		unit_number(good[i], stream_is_endpoint(good[i]), 1);
	for (i = 0; i < COUNT(bad); i++) {
		unit_number(bad[i], stream_is_endpoint(bad[i]), 0);
		errno = 0;
		unit_number(bad[i],
		    stream_connect(bad[i], clock_ms() + LATER_MS), -1);
		unit_number(bad[i], errno, EINVAL);
	}
	/* unix(7): 108 octets with the NUL. */
	buf_addf(&path, "unix:%0107d", 0);
	assert_true(stream_is_endpoint(buf_text(&path)));
	buf_addc(&path, '0');
	assert_false(stream_is_endpoint(buf_text(&path)));
}

/* Listens on an address, which becomes the one that was given. */
static int
listen_at(struct sockaddr *address, socklen_t len)
{
	int fd;

	fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_not_equal(fd, -1);
	assert_int_equal(bind(fd, address, len), 0);
	assert_int_equal(listen(fd, 0), 0);
	assert_int_equal(getsockname(fd, address, &len), 0);
	return fd;
}

static void
connects(const char *endpoint, int listener)
{
	int accepted, fd;

	fd = stream_connect(endpoint, clock_ms() + LATER_MS);
	if (fd == -1)
		fail_msg("%s: %s", endpoint, strerror(errno));
	accepted = accept(listener, NULL, NULL);
	assert_int_not_equal(accepted, -1);
	assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
	assert_true((fcntl(fd, F_GETFL) & O_NONBLOCK) == 0);
	assert_int_equal(close(accepted), 0);
	assert_int_equal(close(fd), 0);
}

static void
each_kind_of_endpoint_is_connected_to(void **state)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6,
		.sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	char folder[] = "/tmp/unit_stream.XXXXXX";
	BUF(endpoint, 200);
	int fd;

	(void)state;
	fd = listen_at((struct sockaddr *)&in, sizeof(in));
	buf_addf(&endpoint, "127.0.0.1:%d", ntohs(in.sin_port));
	connects(buf_text(&endpoint), fd);
	buf_reset(&endpoint);
	buf_addf(&endpoint, "localhost:%d", ntohs(in.sin_port));
	connects(buf_text(&endpoint), fd);
	assert_int_equal(close(fd), 0);
	/* Nobody listens there any more. */
	errno = 0;
	assert_int_equal(stream_connect(buf_text(&endpoint),
			     clock_ms() + LATER_MS),
	    -1);
	assert_int_equal(errno, ECONNREFUSED);
	/* localhost is both, IPv4 first. */
	fd = listen_at((struct sockaddr *)&in6, sizeof(in6));
	buf_reset(&endpoint);
	buf_addf(&endpoint, "[::1]:%d", ntohs(in6.sin6_port));
	connects(buf_text(&endpoint), fd);
	buf_reset(&endpoint);
	buf_addf(&endpoint, "localhost:%d", ntohs(in6.sin6_port));
	connects(buf_text(&endpoint), fd);
	assert_int_equal(close(fd), 0);
	assert_non_null(mkdtemp(folder));
	(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s/s", folder);
	fd = listen_at((struct sockaddr *)&un, sizeof(un));
	buf_reset(&endpoint);
	buf_addf(&endpoint, "unix:%s/s", folder);
	connects(buf_text(&endpoint), fd);
	assert_int_equal(close(fd), 0);
	(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s/s", folder);
	assert_int_equal(unlink(un.sun_path), 0);
	assert_int_equal(rmdir(folder), 0);
	errno = 0;
	assert_int_equal(stream_connect(buf_text(&endpoint),
			     clock_ms() + LATER_MS),
	    -1);
	assert_int_equal(errno, ENOENT);
}

/* A listener whose queue is full makes connect(2) wait. */
static void
a_full_backlog_is_waited_for_until_the_deadline(void **state)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	char folder[] = "/tmp/unit_stream.XXXXXX";
	BUF(endpoint, 200);
	int64_t begun;
	int first, listener;

	(void)state;
	assert_non_null(mkdtemp(folder));
	(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s/s", folder);
	listener = listen_at((struct sockaddr *)&un, sizeof(un));
	buf_addf(&endpoint, "unix:%s/s", folder);
	first = stream_connect(buf_text(&endpoint), clock_ms() + LATER_MS);
	assert_int_not_equal(first, -1);
	begun = clock_ms();
	errno = 0;
	assert_int_equal(stream_connect(buf_text(&endpoint), begun + SOON_MS),
	    -1);
	assert_int_equal(errno, ETIMEDOUT);
	assert_true(clock_ms() - begun >= SOON_MS);
	assert_int_equal(close(first), 0);
	assert_int_equal(close(listener), 0);
	(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s/s", folder);
	assert_int_equal(unlink(un.sun_path), 0);
	assert_int_equal(rmdir(folder), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_crlf_ends_a_line),
		cmocka_unit_test(a_nul_is_an_octet_of_the_line),
		cmocka_unit_test(silence_ends_at_the_deadline),
		cmocka_unit_test(a_bare_lf_and_silence_is_reported_early),
		cmocka_unit_test(peek_shows_and_take_takes),
		cmocka_unit_test(
		    output_waits_until_it_is_flushed_or_input_is_wanted),
		cmocka_unit_test(a_full_socket_ends_at_the_deadline),
		cmocka_unit_test(
		    a_peer_is_gone_when_it_hung_up_not_when_it_stopped_sending),
		cmocka_unit_test(a_stream_is_quiet_when_nothing_came),
		cmocka_unit_test(a_stop_ends_the_wait_for_input),
		cmocka_unit_test(endpoints_are_addresses_and_paths_never_names),
		cmocka_unit_test(each_kind_of_endpoint_is_connected_to),
		cmocka_unit_test(
		    a_full_backlog_is_waited_for_until_the_deadline),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

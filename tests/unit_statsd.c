/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Counters: lines that statsd reads, in a datagram that nobody waits for.
 */
#include <sys/socket.h>
#include <sys/un.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

#include "unit.h"

#include "statsd.h"

#include "banned.h"

static void
lines_are_as_statsd_reads_them(void **state)
{
	static const struct {
		const char *name, *metric;
		long long value;
		const char *type;
		struct statsd_tags tags;
		const char *want;
	} rows[] = {
		{ "no tag", "tries", 2, "c", { 0 }, "swiftdrop.tries:2|c\n" },
		{ "one", "put", 9223372036854775807, "ms", { .account = "a" },
		    "swiftdrop.put:9223372036854775807|ms|#account:a\n" },
		{ "all", "messages", 1, "c", { "stored", "a", "2.0.0" },
		    "swiftdrop.messages:1|c|"
		    "#outcome:stored,account:a,dsn:2.0.0\n" },
		{ "first and last", "messages", 1, "c",
		    { .outcome = "rejected", .dsn = "5.7.1" },
		    "swiftdrop.messages:1|c|#outcome:rejected,dsn:5.7.1\n" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		BUF(lines, STATSD_MAX);

		statsd_add(&lines, rows[i].metric, rows[i].value, rows[i].type,
		    &rows[i].tags);
		unit_text(rows[i].name, buf_text(&lines), rows[i].want);
	}
}

static void
a_value_cannot_end_its_tag(void **state)
{
	static const struct {
		const char *name, *in, *want;
	} rows[] = {
		{ "plain", "archive.2", "archive.2" },
		{ "empty", "", "" },
		{ "the protocol's own", "a,b|c:d#e@f\ng", "a_b_c_d_e_f_g" },
		{ "blank and control", "a b\tc\x7f", "a_b_c_" },
		{ "UTF-8", "b\xc3\xbcro", "b__ro" },
		{ "long",
		    "0123456789012345678901234567890123456789"
		    "0123456789012345678901234567890123456789",
		    "0123456789012345678901234567890123456789"
		    "012345678901234567890123" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		const struct statsd_tags tags = { .account = rows[i].in };
		BUF(lines, STATSD_MAX);
		BUF(want, STATSD_MAX);

		statsd_add(&lines, "put", 1, "ms", &tags);
		buf_addf(&want, "swiftdrop.put:1|ms|#account:%s\n",
		    rows[i].want);
		unit_text(rows[i].name, buf_text(&lines), buf_text(&want));
	}
}

static const struct statsd_tags none;

/* Lines stay whole when there is no room for all. */
static void
what_has_no_room_is_left_out(void **state)
{
	BUF(lines, 40);

	(void)state;
	statsd_add(&lines, "tries", 1, "c", &none);
	statsd_add(&lines, "octets", 1234567890, "c", &none);
	statsd_add(&lines, "put", 5, "ms", &none);
	unit_text("lines", buf_text(&lines), "swiftdrop.tries:1|c\n");
}

/* Fails unless one datagram came, with lines but for the last LF. */
static void
assert_datagram(int fd, const char *want)
{
	char got[256];
	ssize_t n;

	n = recv(fd, got, sizeof(got), MSG_DONTWAIT);
	assert_true(n >= 0);
	unit_octets("datagram", got, (size_t)n, want, strlen(want));
	assert_int_equal(recv(fd, got, sizeof(got), MSG_DONTWAIT), -1);
}

static void
send_two(const char *endpoint)
{
	BUF(lines, STATSD_MAX);

	statsd_add(&lines, "tries", 1, "c", &none);
	statsd_add(&lines, "auth", 0, "ms", &none);
	statsd_send(endpoint, &lines);
}

/* A socket on loopback, and its endpoint: the host and a port. */
static int
listening(struct buf *endpoint, unsigned int *port)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&in, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
	*port = ntohs(in.sin_port);
	buf_addf(endpoint, "127.0.0.1:%u", *port);
	return fd;
}

static void
one_datagram_goes_to_every_kind_of_endpoint(void **state)
{
	static const char want[] = "swiftdrop.tries:1|c\nswiftdrop.auth:0|ms";
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	char folder[] = "/tmp/unit_statsd.XXXXXX";
	BUF(endpoint, 256);
	unsigned int port;
	socklen_t len;
	int fd;

	(void)state;
	fd = listening(&endpoint, &port);
	send_two(buf_text(&endpoint));
	assert_datagram(fd, want);
	buf_reset(&endpoint);
	buf_addf(&endpoint, "localhost:%u", port);
	send_two(buf_text(&endpoint));
	assert_datagram(fd, want);
	(void)close(fd);

	fd = socket(AF_INET6, SOCK_DGRAM, 0);
	in6.sin6_addr = in6addr_loopback;
	len = sizeof(in6);
	assert_int_equal(bind(fd, (struct sockaddr *)&in6, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in6, &len), 0);
	buf_reset(&endpoint);
	buf_addf(&endpoint, "[::1]:%u", ntohs(in6.sin6_port));
	send_two(buf_text(&endpoint));
	assert_datagram(fd, want);
	(void)close(fd);

	assert_non_null(mkdtemp(folder));
	(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s/s", folder);
	fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	buf_reset(&endpoint);
	buf_addf(&endpoint, "unix:%s", un.sun_path);
	send_two(buf_text(&endpoint));
	assert_datagram(fd, want);
	(void)close(fd);
	/* A path without its server, and one that is not there. */
	send_two(buf_text(&endpoint));
	(void)unlink(un.sun_path);
	send_two(buf_text(&endpoint));
	(void)rmdir(folder);
}

/* A server that reads nothing takes some; what does not fit is dropped. */
static void
a_full_queue_makes_nobody_wait(void **state)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	char folder[] = "/tmp/unit_statsd.XXXXXX", got[256];
	BUF(endpoint, 256);
	int fd, i, n;

	(void)state;
	assert_non_null(mkdtemp(folder));
	(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s/s", folder);
	fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	buf_addf(&endpoint, "unix:%s", un.sun_path);
	for (i = 0; i < 2000; i++)
		send_two(buf_text(&endpoint));
	for (n = 0; recv(fd, got, sizeof(got), MSG_DONTWAIT) > 0; n++)
		;
	assert_in_range(n, 1, 1999);
	(void)close(fd);
	(void)unlink(un.sun_path);
	(void)rmdir(folder);
}

static void
nothing_is_sent_where_nothing_is_to_be_said(void **state)
{
	BUF(lines, STATSD_MAX);
	BUF(endpoint, 256);
	unsigned int port;
	char octet;
	int fd;

	(void)state;
	fd = listening(&endpoint, &port);
	statsd_send(buf_text(&endpoint), &lines);
	assert_int_equal(recv(fd, &octet, 1, MSG_DONTWAIT), -1);
	(void)close(fd);
	statsd_add(&lines, "tries", 1, "c", &none);
	statsd_send(NULL, &lines);
	statsd_send("a name:8125", &lines);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_are_as_statsd_reads_them),
		cmocka_unit_test(a_value_cannot_end_its_tag),
		cmocka_unit_test(what_has_no_room_is_left_out),
		cmocka_unit_test(one_datagram_goes_to_every_kind_of_endpoint),
		cmocka_unit_test(a_full_queue_makes_nobody_wait),
		cmocka_unit_test(nothing_is_sent_where_nothing_is_to_be_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

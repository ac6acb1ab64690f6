/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Counters for statsd, in a datagram that nobody waits for.
 *
 * github.com/statsd/statsd/blob/master/docs/metric_types.md,
 * docs.datadoghq.com/developers/dogstatsd/datagram_shell
 */
#include <sys/socket.h>

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "statsd.h"
#include "stream.h"

#include "banned.h"

/* Whether an octet may stand in a tag: printable, and no separator. */
static bool
is_plain(char c)
{
	return c > ' ' && c <= '~' && strchr(",|:#@", c) == NULL;
}

/* Appends a tag unless it has no value. */
static void
add_tag(struct buf *line, const char *name, const char *value)
{
	size_t i;

	if (value == NULL)
		return;
	buf_adds(line, strchr(buf_text(line), '#') == NULL ? "|#" : ",");
	buf_addf(line, "%s:", name);
	for (i = 0; i < STATSD_VALUE_MAX && value[i] != '\0'; i++)
		buf_addc(line, is_plain(value[i]) ? value[i] : '_');
}

void
statsd_add(struct buf *lines, const char *metric, long long value,
    const char *type, const struct statsd_tags *tags)
{
	BUF(line, STATSD_MAX);

	buf_addf(&line, "swiftdrop.%s:%lld|%s", metric, value, type);
	add_tag(&line, "outcome", tags->outcome);
	add_tag(&line, "account", tags->account);
	add_tag(&line, "dsn", tags->dsn);
	buf_addc(&line, '\n');
	buf_fail(lines, line.error);
	buf_add(lines, buf_text(&line), line.len);
}

void
statsd_send(const char *endpoint, const struct buf *lines)
{
	int fd;

	if (endpoint == NULL || lines->len == 0)
		return;
	fd = stream_datagram(endpoint);
	if (fd == -1)
		return;
	(void)send(fd, lines->data, lines->len - 1,
	    MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)close(fd);
}

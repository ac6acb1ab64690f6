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

void
statsd_tag(struct buf *tags, const char *name, const char *value)
{
	size_t i;

	buf_addf(tags, "%s%s:", tags->len == 0 ? "" : ",", name);
	for (i = 0; i < STATSD_VALUE_MAX && value[i] != '\0'; i++)
		buf_addc(tags, is_plain(value[i]) ? value[i] : '_');
}

void
statsd_add(struct buf *lines, const char *metric, long long value,
    const char *type, const struct buf *tags)
{
	buf_addf(lines, "swiftdrop.%s:%lld|%s%s%s\n", metric, value, type,
	    tags->len == 0 ? "" : "|#", buf_text(tags));
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

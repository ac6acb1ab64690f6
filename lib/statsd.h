/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Counters for statsd: lines with DogStatsD's tags, and the datagram that
 * carries them.  Nothing here fails to the caller's knowledge or waits.
 */
#ifndef STATSD_H
#define STATSD_H

#include "buf.h"

enum {
	STATSD_MAX = 16 * 1024, /* octets of a datagram */
	STATSD_VALUE_MAX = 64   /* octets of a tag's value */
};

/* What a line is about; borrowed, NULL for nothing. */
struct statsd_tags {
	const char *outcome, *account, *dsn;
};

/*
 * Appends a line, "swiftdrop.METRIC:VALUE|TYPE|#TAGS", whole or not at all.  In
 * a tag, what the protocol has a meaning for, or is not printable US-ASCII,
 * becomes "_"; what is longer than STATSD_VALUE_MAX is cut.
 */
void statsd_add(struct buf *lines, const char *metric, long long value,
    const char *type, const struct statsd_tags *tags);

/*
 * Sends lines, if there are any, as one datagram to an endpoint as
 * stream_connect() knows it; NULL for none.
 */
void statsd_send(const char *endpoint, const struct buf *lines);

#endif

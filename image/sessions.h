/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * How much is going on: for the wait at the end.
 */
#ifndef SESSIONS_H
#define SESSIONS_H

#include <stddef.h>

/*
 * Counts the SMTP connections to our port and the swiftdrop processes, the
 * larger of both; 0 when /proc cannot be read.
 */
size_t sessions_count(void);

/*
 * Counts in text, the content of /proc/net/tcp or tcp6 (proc(5)), the
 * connections to local port 25 that smtpd(8) has not closed yet.
 */
size_t sessions_in_table(const char *text);

#endif

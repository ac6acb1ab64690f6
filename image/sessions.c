/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * How much is going on.  smtpd(8) tells nobody whether it is busy, but the
 * kernel knows its connections; swiftdrop is a process for each mail, those
 * that smtp(8) brings included.
 */
#include <glob.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "sessions.h"

#include "banned.h"

enum {
	TABLE_MAX = 16 * 1024 * 1024, /* octets; some 100,000 connections */
	/* States of include/net/tcp_states.h in Linux. */
	STATE_ESTABLISHED = 0x01,
	STATE_CLOSE_WAIT = 0x08,
	PORT = 25
};

/* "  0: 0100007F:0019 0200007F:C350 01 ...", all in hexadecimal digits. */
static bool
is_session(const char *line)
{
	const char *field;
	char *end;
	unsigned long port, state;

	field = strchr(line, ':');
	field = field == NULL ? NULL : strchr(field + 1, ':');
	if (field == NULL)
		return false;
	port = strtoul(field + 1, &end, 16);
	end += strspn(end, " ");
	end += strcspn(end, " \n");
	state = strtoul(end, NULL, 16);
	return port == PORT &&
	       (state == STATE_ESTABLISHED || state == STATE_CLOSE_WAIT);
}

size_t
sessions_in_table(const char *text)
{
	const char *line;
	size_t n;

	n = 0;
	line = strchr(text, '\n'); /* the first line is a heading */
	for (; line != NULL; line = strchr(line + 1, '\n'))
		n += is_session(line + 1) ? 1 : 0;
	return n;
}

static size_t
count_table(const char *path)
{
	BUF(text, TABLE_MAX);

	return file_read(path, &text, NULL) == 0
		   ? sessions_in_table(buf_text(&text))
		   : 0;
}

static size_t
count_filters(void)
{
	glob_t processes;
	size_t i, n = 0;

	if (glob("/proc/[0-9]*/comm", GLOB_NOSORT, NULL, &processes) != 0)
		return 0;
	for (i = 0; i < processes.gl_pathc; i++) {
		BUF(name, 64);

		if (file_read(processes.gl_pathv[i], &name, NULL) == 0 &&
		    strcmp(buf_text(&name), "swiftdrop\n") == 0)
			n++;
	}
	globfree(&processes);
	return n;
}

size_t
sessions_count(void)
{
	size_t connections, filters;

	connections =
	    count_table("/proc/net/tcp") + count_table("/proc/net/tcp6");
	filters = count_filters();
	return connections > filters ? connections : filters;
}

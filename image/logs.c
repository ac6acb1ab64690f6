/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Everybody's log lines.  postlogd(8) could write Postfix's and swiftdrop's to
 * stdout itself; but the first lines need a reader before it, and errormail.c
 * wants to see all of them.
 */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "environment.h"
#include "files.h"
#include "logs.h"
#include "paths.h"
#include "text.h"

#include "banned.h"

enum {
	DATAGRAM_MAX = 8192,     /* twice what Postfix and swiftdrop write */
	LINE_LIMIT = 512 * 1024, /* octets; all faults together are fewer */
	STAMP = 15               /* "Mon DD HH:MM:SS", RFC 3164 section 4.1.2 */
};

/* The log's own state; there is one. */
static struct {
	logs_watch_fn *watch; /* borrowed; NULL for nobody */
	void *context;        /* borrowed */
	bool json;
} state;

static int
open_socket(const char *path, struct buf *faults)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd;

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	(void)unlink(path);
	if (fd != -1 &&
	    bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
	    chmod(path, 0666) == 0)
		return fd;
	environment_fault(faults, path, "%s", strerror(errno));
	if (fd != -1)
		(void)close(fd);
	return -1;
}

void
logs_open(int sockets[LOGS_SOCKETS], struct buf *faults)
{
	/* The folder lets nobody in but the filter's group. */
	if (files_make_shared(LOG_DIR, 0710) == -1)
		environment_fault(faults, LOG_DIR, "%s", strerror(errno));
	sockets[LOGS_POSTFIX] = open_socket("/dev/log", faults);
	sockets[LOGS_FILTER] = open_socket(LOG_PATH, faults);
}

void
logs_set(bool json, logs_watch_fn *watch, void *context)
{
	state.json = json;
	state.watch = watch;
	state.context = context;
}

/* "Mon DD HH:MM:SS host process[pid]: text", or anything, as MESSAGE. */
static void
add_json(const struct buf *line, struct buf *out)
{
	char *pid, *process, *rest = NULL, *text;
	json_auto_t *object = NULL;
	BUF(copy, LINE_LIMIT);

	buf_adds(&copy, buf_text(line));
	if (copy.len > STAMP)
		rest = copy.data + STAMP + 1;
	(void)strsep(&rest, " ");
	process = strsep(&rest, "[");
	pid = strsep(&rest, "]");
	object = rest == NULL ? json_pack("{s:s}", "MESSAGE", buf_text(line))
			      : json_pack("{s:s, s:s, s:s}", "MESSAGE",
				    rest + strspn(rest, ": "), "process",
				    process, "pid", pid);
	text = json_dumps(object, JSON_COMPACT);
	buf_addf(out, "%s\n", text == NULL ? "{}" : text);
	free(text);
}

/* A line that cannot be written is lost: there is nowhere else to say so. */
static void
write_line(enum logs_source source, const struct buf *line)
{
	const char *data = buf_text(line);
	BUF(out, LINE_LIMIT);
	ssize_t n;

	if (state.watch != NULL)
		state.watch(state.context, source, data);
	if (state.json && *data != '{')
		add_json(line, &out);
	else
		buf_addf(&out, "%s\n", data);
	data = buf_text(&out);
	while (*data != '\0') {
		n = write(STDOUT_FILENO, data, strlen(data));
		if (n == -1 && errno != EINTR)
			return;
		data += n == -1 ? 0 : n;
	}
}

static const char *
host_name(void)
{
	static char host[HOST_NAME_MAX + 1];

	if (host[0] == '\0')
		(void)gethostname(host, sizeof(host) - 1);
	return host;
}

void
logs_line(const char *data, size_t len, const char *host, struct buf *line)
{
	const char *end;
	size_t i, n;
	bool syslog;

	/* syslog(3) sends no newline, or one; a NUL may end the text. */
	while (len > 0 && (data[len - 1] == '\n' || data[len - 1] == '\0'))
		len--;
	end = len > 0 && data[0] == '<' ? memchr(data, '>', len) : NULL;
	syslog = end != NULL && end - data <= 4;
	if (syslog) {
		len -= (size_t)(end - data) + 1;
		data = end + 1;
	}
	for (i = 0; i < len; i += n == 0 ? 1 : n) {
		if (syslog && i == STAMP)
			buf_addf(line, " %s", host);
		n = is_control(data[i]) ? 0 : utf8_length(data + i, len - i);
		buf_add(line, n == 0 ? "?" : data + i, n == 0 ? 1 : n);
	}
}

bool
logs_pass_on(int socket, enum logs_source source)
{
	static char data[DATAGRAM_MAX];
	BUF(line, LINE_LIMIT);
	ssize_t n;

	n = recv(socket, data, sizeof(data), 0);
	if (n <= 0)
		return false;
	logs_line(data, (size_t)n, host_name(), &line);
	write_line(source, &line);
	return true;
}

void
logs_say(const char *format, ...)
{
	BUF(line, LINE_LIMIT);
	struct tm tm;
	va_list args;
	char stamp[STAMP + 1] = "";
	time_t now;

	now = time(NULL);
	if (localtime_r(&now, &tm) != NULL)
		(void)strftime(stamp, sizeof(stamp), "%b %e %H:%M:%S", &tm);
	buf_addf(&line, "%s %s swiftdrop-entry[%d]: ", stamp, host_name(),
	    (int)getpid());
	va_start(args, format);
	buf_vaddf(&line, format, args);
	va_end(args);
	write_line(LOGS_OWN, &line);
}

void
logs_say_lines(const char *word, const struct buf *text)
{
	const char *line;
	size_t len;

	for (line = buf_text(text); *line != '\0';
	     line += len + (line[len] != '\0')) {
		len = strcspn(line, "\n");
		logs_say("%s: %.*s", word, (int)len, line);
	}
}

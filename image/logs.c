/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Everybody's log lines.  postlogd(8) could serve swiftdrop too, by a socket
 * outside public/; but the early lines need a reader before it, and one
 * reader is enough.
 */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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

static int
open_socket(const char *path, struct buf *reason)
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
	buf_addf(reason, "%s: %s; ", path, strerror(errno));
	if (fd != -1)
		(void)close(fd);
	return -1;
}

void
logs_open(struct logs *l, struct buf *reason)
{
	l->sockets[0] = open_socket("/dev/log", reason);
	/* The folder lets nobody in but the filter's group. */
	if (files_make_shared(LOG_DIR, 0710) == -1)
		buf_addf(reason, LOG_DIR ": %s; ", strerror(errno));
	else
		l->sockets[1] = open_socket(LOG_PATH, reason);
}

/* A line that cannot be written is lost: there is nowhere else to say so. */
static void
write_line(const struct buf *line)
{
	const char *data = buf_text(line);
	size_t len;
	ssize_t n;

	for (len = line->len; len > 0; len -= (size_t)n, data += n) {
		n = write(STDOUT_FILENO, data, len);
		if (n == -1 && errno != EINTR)
			return;
		if (n == -1)
			n = 0;
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
	size_t i;
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
	for (i = 0; i < len; i++) {
		if (syslog && i == STAMP)
			buf_addf(line, " %s", host);
		buf_addc(line, is_control(data[i]) ? '?' : data[i]);
	}
	buf_addc(line, '\n');
}

void
logs_pass_on(int socket)
{
	/* The log's own state; there is one reader. */
	static char data[DATAGRAM_MAX];
	BUF(line, LINE_LIMIT);
	ssize_t n;

	n = recv(socket, data, sizeof(data), 0);
	if (n <= 0)
		return;
	logs_line(data, (size_t)n, host_name(), &line);
	write_line(&line);
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
	buf_addc(&line, '\n');
	write_line(&line);
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

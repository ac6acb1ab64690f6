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
#include "postconf.h"

#include "banned.h"

enum {
	DATAGRAM_MAX = 8192, /* twice what Postfix and swiftdrop write */
	STAMP = 15           /* "Mon DD HH:MM:SS", RFC 3164 section 4.1.2 */
};

static int open_socket(const char *path, mode_t mode);
static void write_line(const struct buf *line);
static const char *host_name(void);

int
logs_open(struct logs *l, gid_t group, struct buf *reason)
{
	int result;

	result = 0;
	l->sockets[0] = open_socket("/dev/log", 0666);
	if (l->sockets[0] == -1) {
		(void)buf_addf(reason, "/dev/log: %s; ", strerror(errno));
		result = -1;
	}
	/* The folder lets nobody in but the filter's group. */
	if (setegid(group) == -1)
		return -1;
	(void)mkdir(RUN_DIR "/log", 0710);
	l->sockets[1] = chmod(RUN_DIR "/log", 0710) == -1
			    ? -1
			    : open_socket(LOG_PATH, 0666);
	if (l->sockets[1] == -1) {
		(void)buf_addf(reason, "%s: %s; ", LOG_PATH, strerror(errno));
		result = -1;
	}
	return setegid(0) == -1 ? -1 : result;
}

static int
open_socket(const char *path, mode_t mode)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd;

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1)
		return -1;
	(void)unlink(path);
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
	    chmod(path, mode) == 0)
		return fd;
	(void)close(fd);
	return -1;
}

void
logs_pass_on(int socket)
{
	/* The log's own state; there is one reader. */
	static char data[DATAGRAM_MAX];
	struct buf line;
	ssize_t n;

	n = recv(socket, data, sizeof(data), 0);
	if (n <= 0)
		return;
	buf_init(&line, (size_t)2 * DATAGRAM_MAX);
	if (logs_line(data, (size_t)n, host_name(), &line) == 0)
		write_line(&line);
	buf_free(&line);
}

int
logs_line(const char *data, size_t len, const char *host, struct buf *line)
{
	const char *end;
	size_t i;
	bool control, syslog;

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
		if (syslog && i == STAMP && buf_addf(line, " %s", host) == -1)
			return -1;
		control = (unsigned char)data[i] < ' ' || data[i] == 0x7f;
		if (buf_add(line, control ? "?" : &data[i], 1) == -1)
			return -1;
	}
	return buf_add_octet(line, '\n');
}

/* A line that cannot be written is lost: there is nowhere else to say so. */
static void
write_line(const struct buf *line)
{
	const char *data;
	size_t len;
	ssize_t n;

	data = line->data;
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
logs_say(const char *format, ...)
{
	struct buf line;
	struct tm tm;
	va_list args;
	char stamp[STAMP + 1] = "";
	time_t now;

	now = time(NULL);
	if (localtime_r(&now, &tm) != NULL)
		(void)strftime(stamp, sizeof(stamp), "%b %e %H:%M:%S", &tm);
	buf_init(&line, (size_t)2 * DATAGRAM_MAX);
	(void)buf_addf(&line, "%s %s swiftdrop-entry[%d]: ", stamp, host_name(),
	    (int)getpid());
	va_start(args, format);
	(void)buf_vaddf(&line, format, args);
	va_end(args);
	if (buf_add_octet(&line, '\n') == 0)
		write_line(&line);
	buf_free(&line);
}

void
logs_say_lines(const char *word, const struct buf *text)
{
	const char *line;
	size_t len;

	for (line = buf_text(text); *line != '\0'; line += len + 1) {
		len = strcspn(line, "\n");
		logs_say("%s: %.*s", word, (int)len, line);
		if (line[len] == '\0')
			return;
	}
}

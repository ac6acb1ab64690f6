/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The log.  Every target is a socket or a pipe, written by hand with a limit
 * on the time: syslog(3) and sd_journal_send(3) can block for ever.
 */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "messageid.h"

#include "banned.h"

enum {
	LOG_WAIT_MS = 1000,   /* a line waits this long, then it is dropped */
	LOG_FACILITY = 2 << 3 /* mail, RFC 5424 section 6.2.1 */
};

enum log_target {
	TARGET_NONE,
	TARGET_JOURNAL,
	TARGET_SYSLOG,
	TARGET_POSTLOG,
	TARGET_STDERR
};

static const struct {
	const char *name;
	const char *message_id;
} verbs[] = {
	[LOG_STORED] = { "stored", MESSAGE_ID_STORED },
	[LOG_DEFERRED] = { "deferred", MESSAGE_ID_DEFERRED },
	[LOG_REJECTED] = { "rejected", MESSAGE_ID_REJECTED },
	[LOG_FORWARDED] = { "forwarded", MESSAGE_ID_FORWARDED },
	[LOG_IN_DOUBT] = { "in-doubt", MESSAGE_ID_IN_DOUBT },
	[LOG_LOST] = { "lost", MESSAGE_ID_LOST },
	[LOG_CONFIG] = { "config", MESSAGE_ID_CONFIG },
	[LOG_ACCOUNT] = { "account", MESSAGE_ID_ACCOUNT },
};

static struct {
	enum log_target target;
	int fd;           /* of the syslog or postlog socket, or -1 */
	bool stream;      /* the socket is a stream: a NUL ends each line */
	const char *path; /* borrowed from the configuration */
	uintmax_t journal_device, journal_inode; /* of its stream, or 0 */
} log_state = { .target = TARGET_NONE, .fd = -1 };

static void find_journal(void);
static bool is_journal(int fd);
static void add_pair(struct log_line *l, const char *key, const char *value,
    const char *quote);
static void escape(struct buf *out, const char *text);
static void write_journal(const struct log_line *l);
static void write_syslog(const struct log_line *l);
static void send_text(const struct buf *text);
static int connect_socket(const char *path);
static void write_stderr(const struct log_line *l);

void
log_open(const char *target, bool stderr_is_free)
{
	static const char postlog[] = "postlog:";
	enum log_target chosen;

	log_close();
	find_journal();
	chosen = TARGET_NONE;
	if (strcmp(target, "auto") == 0) {
		if (is_journal(STDERR_FILENO))
			chosen = TARGET_JOURNAL;
		else if (access("/dev/log", F_OK) == 0)
			chosen = TARGET_SYSLOG;
		else if (stderr_is_free)
			chosen = TARGET_STDERR;
	} else if (strcmp(target, "journal") == 0) {
		chosen = TARGET_JOURNAL;
	} else if (strcmp(target, "syslog") == 0) {
		chosen = TARGET_SYSLOG;
	} else if (strcmp(target, "stderr") == 0 && stderr_is_free) {
		chosen = TARGET_STDERR;
	} else if (strncmp(target, postlog, sizeof(postlog) - 1) == 0) {
		chosen = TARGET_POSTLOG;
		log_state.path = target + sizeof(postlog) - 1;
	}
	if (chosen == TARGET_SYSLOG)
		log_state.path = "/dev/log";
	if (chosen == TARGET_JOURNAL)
		log_state.path = "/run/systemd/journal/socket";
	log_state.target = chosen;
}

/* $JOURNAL_STREAM is "device:inode" of the journal's socket; systemd.exec(5) */
static void
find_journal(void)
{
	const char *text;
	uintmax_t device, inode;
	char *end;

	log_state.journal_device = log_state.journal_inode = 0;
	text = getenv("JOURNAL_STREAM");
	if (text == NULL)
		return;
	device = strtoumax(text, &end, 10);
	if (end == text || *end != ':')
		return;
	text = end + 1;
	inode = strtoumax(text, &end, 10);
	if (end == text || *end != '\0')
		return;
	log_state.journal_device = device;
	log_state.journal_inode = inode;
}

static bool
is_journal(int fd)
{
	struct stat st;

	return log_state.journal_inode != 0 && fstat(fd, &st) == 0 &&
	       st.st_dev == log_state.journal_device &&
	       st.st_ino == log_state.journal_inode;
}

const char *
log_prefix(int fd, enum log_level level)
{
	static const char *const prefixes[] = {
		[LOG_LEVEL_ERROR] = "<3>",
		[LOG_LEVEL_WARNING] = "<4>",
		[LOG_LEVEL_INFO] = "<6>",
	};

	return is_journal(fd) ? prefixes[level] : "";
}

void
log_fault(const char *format, ...)
{
	va_list args;

	(void)fprintf(stderr,
	    "%sswiftdrop: ", log_prefix(STDERR_FILENO, LOG_LEVEL_ERROR));
	va_start(args, format);
	(void)vfprintf(stderr, format, args);
	va_end(args);
	(void)fputc('\n', stderr);
}

void
log_close(void)
{
	if (log_state.fd != -1)
		(void)close(log_state.fd);
	log_state.fd = -1;
	log_state.target = TARGET_NONE;
}

bool
log_is_target(const char *text)
{
	return strcmp(text, "auto") == 0 || strcmp(text, "journal") == 0 ||
	       strcmp(text, "syslog") == 0 || strcmp(text, "stderr") == 0 ||
	       strcmp(text, "none") == 0 ||
	       (strncmp(text, "postlog:", 8) == 0 && text[8] != '\0' &&
		   strlen(text + 8) <
		       sizeof(((struct sockaddr_un *)NULL)->sun_path));
}

void
log_begin(struct log_line *l, enum log_verb verb, enum log_level level)
{
	*l = (struct log_line){ .verb = verb, .level = level };
	buf_init(&l->text, LOG_LINE_MAX);
	buf_init(&l->fields, LOG_FIELDS_MAX);
	(void)buf_addf(&l->text, "%s:", verbs[verb].name);
}

void
log_add(struct log_line *l, const char *key, const char *format, ...)
{
	struct buf value;
	va_list args;

	buf_init(&value, LOG_FIELDS_MAX);
	va_start(args, format);
	(void)buf_vaddf(&value, format, args);
	va_end(args);
	add_pair(l, key, buf_text(&value), "");
	buf_free(&value);
}

void
log_add_quoted(struct log_line *l, const char *key, const char *value)
{
	add_pair(l, key, value, "\"");
}

/* Adds a pair to the line and a field, without the quotes, for the journal. */
static void
add_pair(struct log_line *l, const char *key, const char *value,
    const char *quote)
{
	size_t i, mark;

	mark = l->text.len;
	if (buf_addf(&l->text, "%s %s=%s",
		strchr(buf_text(&l->text), '=') == NULL ? "" : ",", key,
		quote) == 0) {
		escape(&l->text, value);
		(void)buf_add_text(&l->text, quote);
	} else {
		buf_cut(&l->text, mark);
	}
	/* A field's name is in upper case, journald takes no other. */
	mark = l->fields.len;
	(void)buf_addf(&l->fields, "%s=", key);
	for (i = mark; i < l->fields.len; i++)
		if (l->fields.data[i] >= 'a' && l->fields.data[i] <= 'z')
			l->fields.data[i] =
			    (char)(l->fields.data[i] - 'a' + 'A');
	escape(&l->fields, value);
	if (buf_add_octet(&l->fields, '\0') == -1)
		buf_cut(&l->fields, mark);
}

static void
escape(struct buf *out, const char *text)
{
	for (; *text != '\0'; text++) {
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			(void)buf_addf(out, "\\%03o",
			    (unsigned int)(unsigned char)*text);
		else
			(void)buf_add_octet(out, *text);
	}
}

void
log_end(struct log_line *l)
{
	switch (log_state.target) {
	case TARGET_JOURNAL:
		write_journal(l);
		break;
	case TARGET_SYSLOG:
	case TARGET_POSTLOG:
		write_syslog(l);
		break;
	case TARGET_STDERR:
		write_stderr(l);
		break;
	case TARGET_NONE:
		break;
	}
	buf_free(&l->text);
	buf_free(&l->fields);
}

void
log_text(enum log_verb verb, enum log_level level, const char *format, ...)
{
	struct log_line l;
	struct buf text;
	va_list args;

	log_begin(&l, verb, level);
	buf_init(&text, LOG_LINE_MAX - 64);
	va_start(args, format);
	(void)buf_vaddf(&text, format, args);
	va_end(args);
	(void)buf_add_octet(&l.text, ' ');
	escape(&l.text, buf_text(&text));
	buf_free(&text);
	log_end(&l);
}

/*
 * systemd.journal-fields(7) in the journal's native protocol, a datagram of
 * "FIELD=value" lines (systemd.io/JOURNAL_NATIVE_PROTOCOL).  Not through
 * sd_journal_sendv(3): that waits for a journald that hangs without limit.
 * No value holds a LF, they are escaped.
 */
static void
write_journal(const struct log_line *l)
{
	struct buf text;
	const char *p;

	buf_init(&text, LOG_LINE_MAX + LOG_FIELDS_MAX + 256);
	(void)buf_addf(&text,
	    "PRIORITY=%d\nSYSLOG_FACILITY=%d\nSYSLOG_IDENTIFIER=swiftdrop\n"
	    "SYSLOG_PID=%ld\nMESSAGE_ID=%s\nMESSAGE=%s\n",
	    (int)l->level, LOG_FACILITY >> 3, (long)getpid(),
	    verbs[l->verb].message_id, buf_text(&l->text));
	for (p = l->fields.data; p < l->fields.data + l->fields.len;
	     p += strlen(p) + 1)
		(void)buf_addf(&text, "%s\n", p);
	send_text(&text);
	buf_free(&text);
}

/* "<priority>Mmm dd hh:mm:ss ...", RFC 3164; postlogd wants no priority. */
static void
write_syslog(const struct log_line *l)
{
	char host[256] = "localhost", when[32];
	struct buf line;
	struct tm tm;
	time_t now;

	now = time(NULL);
	if (localtime_r(&now, &tm) == NULL ||
	    strftime(when, sizeof(when), "%b %e %H:%M:%S", &tm) == 0)
		return;
	(void)gethostname(host, sizeof(host) - 1);
	buf_init(&line, LOG_LINE_MAX + 512);
	if (log_state.target == TARGET_SYSLOG)
		(void)buf_addf(&line, "<%d>%s ", LOG_FACILITY | (int)l->level,
		    when);
	else
		(void)buf_addf(&line, "%s %s ", when, host);
	(void)buf_addf(&line, "swiftdrop[%ld]: %s", (long)getpid(),
	    buf_text(&l->text));
	send_text(&line);
	buf_free(&line);
}

static void
send_text(const struct buf *text)
{
	struct timeval wait = { .tv_sec = LOG_WAIT_MS / 1000 };

	if (log_state.fd == -1 && connect_socket(log_state.path) == -1)
		return;
	(void)setsockopt(log_state.fd, SOL_SOCKET, SO_SNDTIMEO, &wait,
	    sizeof(wait));
	if (send(log_state.fd, text->data,
		text->len + (log_state.stream ? 1 : 0), MSG_NOSIGNAL) != -1)
		return;
	/* The next line tries anew, but a full queue is left alone. */
	if (errno == EAGAIN)
		log_state.target = TARGET_NONE;
	(void)close(log_state.fd);
	log_state.fd = -1;
}

/* A datagram socket, as a rule; some syslog daemons have a stream. */
static int
connect_socket(const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	size_t len;

	len = strlen(path);
	if (len >= sizeof(un.sun_path))
		return -1;
	memcpy(un.sun_path, path, len + 1);
	log_state.stream = false;
	log_state.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (log_state.fd == -1)
		return -1;
	if (connect(log_state.fd, (struct sockaddr *)&un, sizeof(un)) == 0)
		return 0;
	(void)close(log_state.fd);
	log_state.stream = true;
	log_state.fd =
	    socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (log_state.fd != -1 &&
	    connect(log_state.fd, (struct sockaddr *)&un, sizeof(un)) == 0)
		return 0;
	if (log_state.fd != -1)
		(void)close(log_state.fd);
	log_state.fd = -1;
	return -1;
}

static void
write_stderr(const struct log_line *l)
{
	struct pollfd fd = { .fd = STDERR_FILENO, .events = POLLOUT };
	struct buf line;

	buf_init(&line, LOG_LINE_MAX + 64);
	(void)buf_addf(&line, "%s%s\n", log_prefix(STDERR_FILENO, l->level),
	    buf_text(&l->text));
	/* Below PIPE_BUF, so a pipe that is writable takes it whole. */
	if (poll(&fd, 1, LOG_WAIT_MS) != 1 ||
	    write(STDERR_FILENO, buf_text(&line), line.len) == -1)
		log_state.target = TARGET_NONE;
	buf_free(&line);
}

void
log_printable(struct buf *out, const char *text, size_t len, size_t max)
{
	size_t i;

	for (i = 0; i < len && i < max; i++)
		(void)buf_add_octet(out,
		    text[i] >= ' ' && text[i] <= '~' ? text[i] : '?');
}

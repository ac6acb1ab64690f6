/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * ERRORMAIL.  What fails is known by lines of the log, and so is that it is
 * over.  The mail goes to a server of Postfix's without a filter, which
 * image/master.cf has for it, from <>: nobody is told that it failed.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "errormail.h"
#include "log.h"
#include "paths.h"
#include "reply.h"
#include "stream.h"
#include "text.h"

#include "banned.h"

enum {
	LAST_MS = 5 * 60 * 1000, /* that mail must be deferred to be told */
	HOUR_MS = 60 * 60 * 1000,
	SEND_MS = 30 * 1000,
	NAME_LIMIT = 64 * 1024,  /* octets; no line of the log is longer */
	MAIL_LIMIT = 1024 * 1024 /* octets */
};

static const struct kind {
	enum logs_source source;
	const char *begins; /* in a line: it fails */
	const char *ends;   /* in a line: it is over; NULL: an hour without */
	const char *text;
} kinds[] = {
	/* The first is of the account that the line names. */
	{ LOGS_FILTER, "deferred: ", "stored: ", "mail is deferred" },
	{ LOGS_FILTER, ", verdict=none", ", verdict=", "rspamd is silent" },
	{ LOGS_POSTFIX, ", status=bounced ", NULL, "forwards bounce" },
	{ LOGS_OWN, "warning: an account fails", NULL, "check at the start" },
	{ LOGS_OWN, "warning: login: ", "all accounts log in", "login" },
	{ LOGS_OWN, "TLS_CERT_FILE: /", "is in use", "certificate" },
};

static void
add_name(const struct kind *kind, const char *account, size_t len,
    struct buf *name)
{
	buf_adds(name, kind->text);
	if (kind == kinds)
		buf_addf(name, " for account %.*s", (int)len, account);
}

static struct trouble *
find(struct errormail *e, const char *name)
{
	size_t i;

	for (i = 0; i < e->lines.n; i++)
		if (strcmp(e->lines.entries[i]->name, name) == 0)
			return &e->troubles[i];
	return NULL;
}

static void
note(struct errormail *e, const struct kind *kind, const char *name,
    const char *line)
{
	struct trouble *t = find(e, name);
	int64_t now_ms = clock_ms();

	if (t == NULL && e->lines.n < COUNT(e->troubles)) {
		t = &e->troubles[e->lines.n];
		*t = (struct trouble){ .kind = kind, .over = true };
	}
	if (t == NULL)
		return;
	if (t->over) {
		t->over = false;
		t->count = t->told = 0;
		t->since_ms = now_ms;
	}
	/* A fault of ours does not pass by itself. */
	if (strstr(line, ", dsn=4.3.5") != NULL)
		t->since_ms = now_ms - LAST_MS;
	t->count++;
	t->last_ms = now_ms;
	table_set(&e->lines, name, line);
}

void
errormail_see(void *context, enum logs_source source, const char *line)
{
	struct errormail *e = context;
	const char *account, *to = strstr(line, " to=<");
	const struct kind *kind;
	struct trouble *t;

	/* What becomes of the mail itself is no news. */
	if (strstr(line, "ERRORMAIL") != NULL ||
	    (source == LOGS_POSTFIX && to != NULL &&
		text_begins(to + strlen(" to=<"), e->address)))
		return;
	account = strstr(line, ", account=");
	if (account != NULL)
		account += strlen(", account=");
	for (kind = kinds; kind < kinds + COUNT(kinds); kind++) {
		BUF(name, NAME_LIMIT);

		if (kind->source != source ||
		    (kind == kinds && account == NULL))
			continue;
		add_name(kind, account,
		    account == NULL ? 0 : strcspn(account, ",\""), &name);
		t = find(e, buf_text(&name));
		if (strstr(line, kind->begins) != NULL)
			note(e, kind, buf_text(&name), line);
		else if (t != NULL && kind->ends != NULL &&
			 strstr(line, kind->ends) != NULL)
			t->over = true;
	}
}

/* Also what has begun again within the hour waits for its end. */
static bool
is_due(struct trouble *t, int64_t now_ms)
{
	if (t->kind->ends == NULL && now_ms - t->last_ms >= HOUR_MS)
		t->over = true;
	if (t->over)
		return t->told > 0;
	return t->count > t->told &&
	       (t->told_ms == 0 || now_ms - t->told_ms >= HOUR_MS) &&
	       (t->kind != kinds || t->last_ms - t->since_ms >= LAST_MS);
}

void
errormail_report(struct errormail *e, struct buf *text)
{
	int64_t now_ms = clock_ms();
	struct trouble *t;
	size_t i;

	for (i = 0; i < e->lines.n; i++) {
		t = &e->troubles[i];
		if (!is_due(t, now_ms))
			continue;
		buf_addf(text, "%s: %s, %lu times\n    %s\n",
		    t->over ? "over" : "failing", e->lines.entries[i]->name,
		    t->count, e->lines.entries[i]->value);
		t->told = t->over ? 0 : t->count;
		t->told_ms = now_ms;
	}
}

/* Whether our own mail would go to an account that fails. */
static bool
is_in_vain(struct errormail *e)
{
	BUF(name, NAME_LIMIT);
	const struct trouble *t;

	if (e->account == NULL)
		return false;
	add_name(kinds, e->account, strlen(e->account), &name);
	t = find(e, buf_text(&name));
	return t != NULL && !t->over;
}

/* The dialogue, a NUL behind each thing that the server answers. */
static void
write_script(const struct errormail *e, const struct buf *text,
    struct buf *script)
{
	const char *p = buf_text(text);

	buf_addf(script,
	    "%cEHLO %s\r\n%cMAIL FROM:<>%s\r\n%cRCPT TO:<%s>\r\n%cDATA\r\n%c",
	    0, e->hostname, 0,
	    text_is_ascii(e->address, strlen(e->address)) ? "" : " SMTPUTF8", 0,
	    e->address, 0, 0);
	buf_addf(script,
	    "From: swiftdrop <MAILER-DAEMON@%s>\r\nTo: <%s>\r\n"
	    "Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"
	    "Content-Type: text/plain; charset=utf-8\r\n"
	    "Content-Transfer-Encoding: 8bit\r\nSubject: %s: ",
	    e->hostname, e->address, e->hostname);
	log_printable(script, p, strcspn(p, "\n"), 200);
	buf_adds(script, "\r\n\r\n");
	for (; *p != '\0'; p++)
		buf_addf(script, *p == '\n' ? "\r%c" : "%c", *p);
	buf_addf(script, ".\r\n%cQUIT\r\n%c", 0, 0);
}

/* NULL, or what is wrong, perhaps the last answer. */
static const char *
play(const struct buf *script, struct buf *answer)
{
	const int64_t deadline_ms = clock_ms() + SEND_MS;
	const char *p, *wrong = NULL;
	struct stream s;
	int code, fd;

	fd = stream_connect("unix:" ERRORMAIL_SOCKET, deadline_ms);
	if (fd == -1 || stream_init(&s, fd, fd, -1) == -1)
		return strerror(errno);
	for (p = script->data; wrong == NULL && p < script->data + script->len;
	     p += strlen(p) + 1) {
		(void)stream_write(&s, p, strlen(p), deadline_ms);
		wrong = reply_read(&s, &code, answer, deadline_ms);
		if (wrong == NULL && code >= 400)
			wrong = buf_text(answer);
	}
	return wrong;
}

void
errormail_tell(struct errormail *e)
{
	BUF(answer, REPLY_TEXT_MAX);
	BUF(text, MAIL_LIMIT);
	BUF(script, MAIL_LIMIT);
	const char *wrong;
	bool in_vain;
	pid_t pid;

	errormail_report(e, &text);
	if (text.len == 0)
		return;
	write_script(e, &text, &script);
	in_vain = is_in_vain(e);
	pid = in_vain ? -1 : fork();
	if (pid > 0)
		return;
	wrong = in_vain     ? "its account fails"
		: pid == -1 ? strerror(errno)
			    : play(&script, &answer);
	if (wrong != NULL) {
		logs_say("error: ERRORMAIL: no mail of this: %s", wrong);
		logs_say_lines("error: ERRORMAIL", &text);
	}
	if (pid == 0)
		_exit(0);
}

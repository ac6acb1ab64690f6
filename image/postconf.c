/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The texts that Postfix and swiftdrop read.  The project's main.cf and
 * master.cf for a host are the base; what differs here is said here.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "paths.h"
#include "postconf.h"
#include "text.h"

#include "banned.h"

enum {
	MAIN_MAX = 64 * 1024 * 1024 /* octets; POSTFIX_ variables are in it */
};

/* An entry a line; value, where not NULL, stands for each one's own. */
static void
add_table(const struct table *t, const char *separator, const char *value,
    struct buf *out)
{
	size_t i;

	for (i = 0; i < t->n; i++)
		buf_addf(out, "%s%s%s\n", t->entries[i]->name, separator,
		    value == NULL ? t->entries[i]->value : value);
	buf_fail(out, t->error);
}

/* What our own variables say, as lines of main.cf. */
static void
add_image(const struct settings *s, struct buf *out)
{
	buf_addf(out, "myhostname = %s\nmydomain = %s\n", s->myhostname,
	    s->mydomain);
	/*
	 * smtpd(8) takes a bare postmaster whatever its tables say; without
	 * anybody behind it, that would bounce later, to a forged sender.
	 */
	buf_addf(out,
	    "smtpd_command_filter = regexp:"
	    "{{/^(RCPT +TO: *<([^<>@]*@[^<>:]*:)?\"?postmaster\"?)@?>(.*)$$/"
	    " $$1@%s>$$3}}\n",
	    s->mydomain);
	buf_addf(out, "smtpd_upstream_proxy_protocol = %s\n",
	    s->proxy ? "haproxy" : "");
	/* Postfix must not give up before swiftdrop does. */
	buf_addf(out, "swiftdrop_timeout = %llds\n",
	    (long long)s->config.smtp.deadline_s + 10);
	/* As postfix/main.cf: room for what is added to the largest mail. */
	buf_addf(out, "message_size_limit = %lld\n",
	    (long long)s->message_size_limit + 1048576);
	buf_addf(out, "default_process_limit = %lld\n",
	    (long long)s->max_servers);
	if (s->postmaster.len > 0)
		buf_addf(out, "2bounce_notice_recipient = %s\n",
		    buf_text(&s->postmaster));
}

/* The last line of a parameter counts: Postfix warns of a second one. */
void
postconf_main(const struct settings *s, const char *base, struct buf *out)
{
	BUF(text, MAIN_MAX);
	TABLE(parameters);
	char *line, *rest, *value;
	const char *name;
	size_t i;

	buf_adds(&text, base);
	add_image(s, &text);
	for (i = 0; i < s->environment.variables.n; i++) {
		name = s->environment.variables.entries[i]->name;
		if (strncmp(name, "POSTFIX_", 8) == 0)
			buf_addf(&text, "%s = %s\n", name + 8,
			    s->environment.variables.entries[i]->value);
	}
	buf_fail(out, text.error);
	for (rest = text.data; (line = strsep(&rest, "\n")) != NULL;) {
		value = strstr(line, " =");
		if (value != NULL) {
			*value = '\0';
			value += strlen(" =");
			table_set(&parameters, line,
			    value + strspn(value, " "));
		} else if (*line != '\0') {
			buf_fail(out, EINVAL);
		}
	}
	add_table(&parameters, " = ", NULL, out);
}

/*
 * The server in front takes its connections from listener.c as it would from
 * postscreen(8), so that the port can be closed while it goes on.  What comes
 * after the project's own options wins.
 */
static void
add_front(const struct settings *s, const char *rest, size_t len,
    struct buf *out)
{
	/* Private, for user postfix alone: field 2 is "-". */
	buf_addf(out,
	    "smtpd pass - %.*s -o message_size_limit=%lld"
	    " -o smtpd_proxy_timeout=$swiftdrop_timeout%s",
	    (int)len, rest, (long long)s->message_size_limit,
	    s->debug ? " -v" : "");
}

/* swiftdrop's services run as many as asked for, the others as they are. */
static void
add_service(const struct settings *s, const char *line, size_t len,
    struct buf *out)
{
	static const char spawn[] = " - spawn ";
	const char *limit;

	limit = memmem(line, len, spawn, strlen(spawn));
	if (limit == NULL) {
		buf_add(out, line, len);
		return;
	}
	buf_add(out, line, (size_t)(limit - line));
	buf_addf(out, " %lld", (long long)s->max_processes);
	limit += strlen(" -");
	buf_add(out, limit, (size_t)(line + len - limit));
}

void
postconf_master(const struct settings *s, const char *base, struct buf *out)
{
	/* How the line of the server in front begins. */
	static const char front[] = "smtp inet n ";
	const size_t skip = strlen(front);
	bool has_front = false;
	size_t len;

	for (; *base != '\0'; base += len + (base[len] != '\0')) {
		len = strcspn(base, "\n");
		if (strncmp(base, front, skip) == 0) {
			has_front = true;
			add_front(s, base + skip, len - skip, out);
		} else {
			add_service(s, base, len, out);
		}
		buf_addc(out, '\n');
	}
	if (!has_front)
		buf_fail(out, EINVAL);
}

/* Our domains; the way to swiftdrop for mail that is born inside Postfix. */
void
postconf_domains(const struct settings *s, const char *base, struct buf *out)
{
	(void)base;
	add_table(&s->domains, " ", "swiftdrop-client:[127.0.0.1]:10025", out);
}

void
postconf_recipients(const struct settings *s, const char *base, struct buf *out)
{
	(void)base;
	add_table(&s->recipients, " ", "stored", out);
}

void
postconf_forwards(const struct settings *s, const char *base, struct buf *out)
{
	(void)base;
	add_table(&s->forwards, " ", NULL, out);
}

void
postconf_ini(const struct settings *s, const char *base, struct buf *out)
{
	(void)base;
	config_print(&s->config, false, out);
}

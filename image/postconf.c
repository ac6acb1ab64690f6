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
	FIELDS = 8,                 /* of a service in master.cf, master(5) */
	PARAMETER_MAX = 1024 * 1024 /* octets; a POSTFIX_ variable's limit */
};

/* main.cf: what is different in this image from a host of its own. */
static const struct {
	const char *name, *value;
} image_parameters[] = {
	{ "queue_directory", QUEUE_DIR },
	/* Below the queue, so that one volume holds all that is written. */
	{ "data_directory", QUEUE_DIR "/data" },
	{ "daemon_directory", "/usr/lib/postfix/sbin" },
	{ "command_directory", "/usr/sbin" },
	{ "meta_directory", CONFIG_DIR },
	{ "shlib_directory", "/usr/lib/postfix" },
	{ "mail_owner", "postfix" },
	{ "setgid_group", "postdrop" },
	{ "default_privs", "nobody" },
	{ "maillog_file", "/dev/stdout" },
	{ "inet_interfaces", "all" },
	{ "inet_protocols", "all" },
	{ "relay_domains", "texthash:" CONFIG_DIR "/domains" },
	{ "transport_maps", "texthash:" CONFIG_DIR "/domains" },
	{ "relay_recipient_maps", "texthash:" CONFIG_DIR "/recipients" },
	{ "virtual_alias_maps", "texthash:" CONFIG_DIR "/forwards" },
	{ "swiftdrop_filter", "unix:private/swiftdrop" },
	/* No flush(8), scache(8), verify(8) or proxymap(8) is in the image. */
	{ "fast_flush_domains", "" },
	{ "smtp_connection_cache_on_demand", "no" },
	{ "proxy_read_maps", "" },
	/* No /etc/services is in the image. */
	{ "smtp_tcp_port", "25" },
	/* TLS where the client wants it, with the oldest version that is safe. */
	{ "smtpd_tls_chain_files", CHAIN_PATH },
	{ "smtpd_tls_security_level", "may" },
	{ "smtpd_tls_protocols", ">=TLSv1.2" },
	{ "smtpd_tls_mandatory_protocols", ">=TLSv1.2" },
	{ "smtpd_tls_received_header", "yes" },
	{ "smtpd_tls_loglevel", "1" },
	{ "smtp_tls_security_level", "may" },
	{ "smtp_tls_protocols", ">=TLSv1.2" },
	{ "smtp_tls_mandatory_protocols", ">=TLSv1.2" },
	{ "smtp_tls_CApath", "/etc/ssl/certs" },
	{ "smtp_tls_loglevel", "1" },
	{ "smtpd_client_event_limit_exceptions", "127.0.0.1, [::1]" },
};

/* The services of master.cf that postfix/ leaves to Debian's own file. */
static const char other_services[] =
    "cleanup   unix  n       -       n       -       0       cleanup\n"
    "qmgr      unix  n       -       n       300     1       qmgr\n"
    "tlsmgr    unix  -       -       n       1000?   1       tlsmgr\n"
    "rewrite   unix  -       -       n       -       -       trivial-rewrite\n"
    "bounce    unix  -       -       n       -       0       bounce\n"
    "defer     unix  -       -       n       -       0       bounce\n"
    "trace     unix  -       -       n       -       0       bounce\n"
    "smtp      unix  -       -       n       -       -       smtp\n"
    "relay     unix  -       -       n       -       -       smtp\n"
    "error     unix  -       -       n       -       -       error\n"
    "retry     unix  -       -       n       -       -       error\n"
    "anvil     unix  -       -       n       -       1       anvil\n"
    "postlog   unix-dgram n  -       n       -       1       postlogd\n";

/* A service of master.cf taken apart; borrowed from its text. */
struct service {
	const char *field[FIELDS];
	size_t len[FIELDS];
	const char *arguments; /* blanks and line breaks included */
	size_t arguments_len;
};

/* The octets of a line and of the indented ones that continue it. */
static size_t
logical_length(const char *text)
{
	size_t len;
	bool comment;

	comment = text[strspn(text, " \t")] == '#';
	len = 0;
	do {
		len += strcspn(text + len, "\n");
		if (text[len] == '\n')
			len++;
	} while (!comment && (text[len] == ' ' || text[len] == '\t'));
	return len;
}

/* A comment or an empty line. */
static bool
is_comment(const char *text, size_t len)
{
	size_t i;

	i = strspn(text, " \t\n");
	return i >= len || text[i] == '#';
}

static void
unexpected(struct buf *out)
{
	if (out->error == 0)
		out->error = EINVAL;
}

/* Takes a parameter of the project's main.cf, postconf(5); whether it is. */
static bool
set_line(struct table *parameters, const char *text, size_t len)
{
	BUF(name, PARAMETER_MAX);
	BUF(value, PARAMETER_MAX);
	const char *p;

	p = memchr(text, '=', len);
	if (p == NULL)
		return false;
	buf_add(&name, text, strcspn(text, " \t="));
	for (p++; p < text + len; p++)
		if (strchr(" \t\n", *p) == NULL)
			buf_addc(&value, *p);
		else if (value.len > 0 && value.data[value.len - 1] != ' ')
			buf_addc(&value, ' ');
	if (value.len > 0 && value.data[value.len - 1] == ' ')
		buf_cut(&value, value.len - 1);
	table_set(parameters, buf_text(&name), buf_text(&value));
	return name.error == 0 && value.error == 0;
}

static void
set_number(struct table *parameters, const char *name, int64_t value,
    const char *unit)
{
	BUF(text, 64);

	buf_addf(&text, "%lld%s", (long long)value, unit);
	table_set(parameters, name, buf_text(&text));
}

/*
 * smtpd(8) takes a bare postmaster whatever its tables say; without anybody
 * behind it, that would bounce later, to a forged sender.
 */
static void
complete_postmaster(struct table *p, const struct settings *s)
{
	BUF(text, 1024);

	buf_addf(&text,
	    "regexp:{{/^(RCPT +TO: *<([^<>@]*@[^<>:]*:)?\"?postmaster\"?)@?>(.*)$$/"
	    " $$1@%s>$$3}}",
	    s->mydomain);
	table_set(p, "smtpd_command_filter", buf_text(&text));
}

/* What the image and its variables say. */
static void
set_image(struct table *p, const struct settings *s)
{
	size_t i;

	for (i = 0; i < COUNT(image_parameters); i++)
		table_set(p, image_parameters[i].name,
		    image_parameters[i].value);
	/* Postfix must not give up before swiftdrop does. */
	set_number(p, "swiftdrop_timeout", s->config.smtp.deadline_s + 10, "s");
	table_set(p, "myhostname", s->myhostname);
	table_set(p, "mydomain", s->mydomain);
	table_set(p, "myorigin", "$mydomain");
	complete_postmaster(p, s);
	table_set(p, "smtpd_upstream_proxy_protocol",
	    s->proxy ? "haproxy" : "");
	/* As postfix/main.cf: room for what is added to the largest mail. */
	set_number(p, "message_size_limit", s->message_size_limit + 1048576,
	    "");
	set_number(p, "default_process_limit", s->max_servers, "");
	if (s->postmaster.len > 0)
		table_set(p, "2bounce_notice_recipient",
		    buf_text(&s->postmaster));
	for (i = 0; i < s->environment.postfix.n; i++)
		table_set(p, s->environment.postfix.entries[i]->name,
		    s->environment.postfix.entries[i]->value);
}

/* An entry a line; value, where not NULL, stands for each one's own. */
static void
add_table(const struct table *t, const char *separator, const char *value,
    struct buf *out)
{
	size_t i;

	for (i = 0; i < t->n; i++)
		buf_addf(out, "%s%s%s\n", t->entries[i]->name, separator,
		    value == NULL ? t->entries[i]->value : value);
	if (t->error != 0 && out->error == 0)
		out->error = t->error;
}

void
postconf_main(const struct settings *s, const char *base, struct buf *out)
{
	TABLE(parameters);
	size_t len;

	for (; *base != '\0'; base += len) {
		len = logical_length(base);
		if (!is_comment(base, len) && !set_line(&parameters, base, len))
			unexpected(out);
	}
	if (parameters.n == 0)
		unexpected(out);
	set_image(&parameters, s);
	add_table(&parameters, " = ", NULL, out);
}

static bool
split_service(const char *text, size_t len, struct service *v)
{
	size_t at, i;

	for (i = 0, at = 0; i < FIELDS; i++) {
		at += strspn(text + at, " \t");
		v->field[i] = text + at;
		v->len[i] = strcspn(text + at, " \t\n");
		at += v->len[i];
		if (v->len[i] == 0 || at > len)
			return false;
	}
	v->arguments = text + at;
	v->arguments_len = len - at;
	return true;
}

static bool
field_is(const struct service *v, size_t i, const char *text)
{
	return v->len[i] == strlen(text) &&
	       memcmp(v->field[i], text, v->len[i]) == 0;
}

static void
add_fields(const struct service *v, size_t from, size_t to, struct buf *out)
{
	size_t i;

	for (i = from; i < to; i++)
		buf_addf(out, "%s%.*s", i == 0 ? "" : " ", (int)v->len[i],
		    v->field[i]);
}

/*
 * The server in front takes its connections from listener.c as it would from
 * postscreen(8), so that the port can be closed while it goes on.  What comes
 * after the project's own options wins.
 */
static void
add_front(const struct settings *s, const struct service *v, struct buf *out)
{
	/* Private, for user postfix alone: field 2 is "-". */
	buf_adds(out, "smtpd pass -");
	add_fields(v, 3, FIELDS, out);
	buf_add(out, v->arguments, v->arguments_len);
	buf_addf(out,
	    "  -o message_size_limit=%lld\n"
	    "  -o smtpd_proxy_timeout=$swiftdrop_timeout\n%s",
	    (long long)s->message_size_limit, s->debug ? "  -v\n" : "");
}

static void
add_service(const struct settings *s, const struct service *v, struct buf *out)
{
	if (field_is(v, 0, "smtp") && field_is(v, 1, "inet")) {
		add_front(s, v, out);
	} else if (field_is(v, 7, "spawn")) {
		/* swiftdrop: as many as asked for; its file is elsewhere. */
		add_fields(v, 0, 6, out);
		buf_addf(out,
		    " %lld spawn\n  user=" FILTER_USER " argv=" FILTER_PATH
		    " -c " INI_PATH "\n",
		    (long long)s->max_processes);
	} else {
		add_fields(v, 0, FIELDS, out);
		buf_add(out, v->arguments, v->arguments_len);
	}
}

void
postconf_master(const struct settings *s, const char *base, struct buf *out)
{
	struct service v;
	size_t len;
	bool front;

	front = false;
	for (; *base != '\0'; base += len) {
		len = logical_length(base);
		if (is_comment(base, len))
			continue;
		if (!split_service(base, len, &v)) {
			unexpected(out);
			return;
		}
		front = front || field_is(&v, 0, "smtp");
		add_service(s, &v, out);
	}
	if (!front)
		unexpected(out);
	buf_adds(out, other_services);
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

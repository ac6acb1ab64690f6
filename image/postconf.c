/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The texts that Postfix and swiftdrop read.  The project's main.cf and
 * master.cf for a host are the base; what differs here is said here.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "postconf.h"

#include "banned.h"

enum {
	FIELDS = 8,                 /* of a service in master.cf, master(5) */
	PARAMETER_MAX = 1024 * 1024 /* octets; all of RECIPIENTS may be one */
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
	/* One client, an attacker perhaps, must not take all servers. */
	{ "smtpd_client_connection_count_limit", "20" },
	{ "smtpd_client_connection_rate_limit", "300" },
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

/* Parameters in the order in which they came up, each once. */
struct parameters {
	struct list names;
	struct list values;
};

/* A service of master.cf taken apart; borrowed from its text. */
struct service {
	const char *field[FIELDS];
	size_t len[FIELDS];
	const char *arguments; /* blanks and line breaks included */
	size_t arguments_len;
};

static int set(struct parameters *p, const char *name, const char *value);
static int set_number(struct parameters *p, const char *name, int64_t value);
static int set_base(struct parameters *p, const char *text);
static int set_line(struct parameters *p, const char *text, size_t len);
static int set_image(struct parameters *p, const struct settings *s);
static size_t logical_length(const char *text);
static bool is_comment(const char *text, size_t len);
static int split_service(const char *text, size_t len, struct service *v);
static bool field_is(const struct service *v, size_t i, const char *text);
static int add_service(const struct settings *s, const struct service *v,
    struct buf *out);
static int add_front(const struct settings *s, const struct service *v,
    struct buf *out);
static int add_fields(const struct service *v, size_t from, size_t to,
    struct buf *out);
static int add_forwards(const struct forward *forwards, size_t n,
    struct buf *out);
static int add_section(const struct settings *s, const char *section,
    struct buf *out);
static int add_options(const struct settings *s, const char *section,
    struct buf *out);
static int add_option(const char *key, const char *value, struct buf *out);

int
postconf_main(const struct settings *s, const char *main, struct buf *out)
{
	struct parameters p = { { NULL, 0 }, { NULL, 0 } };
	size_t i;
	int result;

	result = set_base(&p, main);
	if (result == 0)
		result = set_image(&p, s);
	for (i = 0; result == 0 && i < s->environment.postfix.n; i++)
		result = set(&p, s->environment.postfix.items[i].name,
		    s->environment.postfix.items[i].value);
	for (i = 0; result == 0 && i < p.names.n; i++)
		result = buf_addf(out, "%s = %s\n", p.names.items[i],
		    p.values.items[i]);
	list_free(&p.names);
	list_free(&p.values);
	return result;
}

/* Sets a parameter, once more perhaps. */
static int
set(struct parameters *p, const char *name, const char *value)
{
	size_t i;

	for (i = 0; i < p->names.n; i++) {
		if (strcmp(p->names.items[i], name) == 0)
			return list_replace(&p->values, i, value);
	}
	if (list_add(&p->names, name, strlen(name)) == -1)
		return -1;
	return list_add(&p->values, value, strlen(value));
}

static int
set_number(struct parameters *p, const char *name, int64_t value)
{
	char text[32];

	(void)snprintf(text, sizeof(text), "%lld", (long long)value);
	return set(p, name, text);
}

/* Reads the project's main.cf: one parameter a logical line, postconf(5). */
static int
set_base(struct parameters *p, const char *text)
{
	size_t len;

	for (; *text != '\0'; text += len) {
		len = logical_length(text);
		if (!is_comment(text, len) && set_line(p, text, len) == -1)
			return -1;
	}
	if (p->names.n != 0)
		return 0;
	errno = EINVAL;
	return -1;
}

static int
set_line(struct parameters *p, const char *text, size_t len)
{
	struct buf name, value;
	const char *equals;
	size_t i;
	int result;

	equals = memchr(text, '=', len);
	if (equals == NULL) {
		errno = EINVAL;
		return -1;
	}
	buf_init(&name, PARAMETER_MAX);
	buf_init(&value, PARAMETER_MAX);
	result = buf_add(&name, text, strcspn(text, " \t="));
	for (i = (size_t)(equals - text) + 1; result == 0 && i < len; i++) {
		if (strchr(" \t\n", text[i]) == NULL)
			result = buf_add_octet(&value, text[i]);
		else if (value.len != 0 && value.data[value.len - 1] != ' ')
			result = buf_add_octet(&value, ' ');
	}
	if (value.len != 0 && value.data[value.len - 1] == ' ')
		buf_cut(&value, value.len - 1);
	if (result == 0)
		result = set(p, buf_text(&name), buf_text(&value));
	buf_free(&name);
	buf_free(&value);
	return result;
}

/* What the image and its variables say. */
static int
set_image(struct parameters *p, const struct settings *s)
{
	size_t i, n;
	char timeout[32];

	n = sizeof(image_parameters) / sizeof(image_parameters[0]);
	for (i = 0; i < n; i++)
		if (set(p, image_parameters[i].name,
			image_parameters[i].value) == -1)
			return -1;
	/* Postfix must not give up before swiftdrop does. */
	(void)snprintf(timeout, sizeof(timeout), "%llds",
	    (long long)s->config.smtp.deadline_s + 10);
	if (set(p, "swiftdrop_timeout", timeout) == -1 ||
	    set(p, "myhostname", s->myhostname) == -1 ||
	    set(p, "mydomain", s->mydomain) == -1 ||
	    set(p, "myorigin", "$mydomain") == -1 ||
	    set(p, "smtpd_upstream_proxy_protocol",
		s->proxy ? "haproxy" : "") == -1 ||
	    /* As postfix/main.cf: room for what is added to the largest mail. */
	    set_number(p, "message_size_limit",
		s->message_size_limit + 1048576) == -1 ||
	    set_number(p, "default_process_limit",
		s->max_processes > 100 ? s->max_processes : 100) == -1)
		return -1;
	if (s->postmaster == NULL)
		return 0;
	return set(p, "2bounce_notice_recipient", s->postmaster);
}

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

int
postconf_master(const struct settings *s, const char *master, struct buf *out)
{
	struct service v;
	size_t len;
	bool front;

	front = false;
	for (; *master != '\0'; master += len) {
		len = logical_length(master);
		if (is_comment(master, len))
			continue;
		if (split_service(master, len, &v) == -1)
			return -1;
		front = front || field_is(&v, 0, "smtp");
		if (add_service(s, &v, out) == -1)
			return -1;
	}
	if (!front) {
		errno = EINVAL;
		return -1;
	}
	return buf_add_text(out, other_services);
}

static int
split_service(const char *text, size_t len, struct service *v)
{
	size_t at, i;

	for (i = 0, at = 0; i < FIELDS; i++) {
		at += strspn(text + at, " \t");
		v->field[i] = text + at;
		v->len[i] = strcspn(text + at, " \t\n");
		at += v->len[i];
		if (v->len[i] == 0 || at > len) {
			errno = EINVAL;
			return -1;
		}
	}
	v->arguments = text + at;
	v->arguments_len = len - at;
	return 0;
}

static bool
field_is(const struct service *v, size_t i, const char *text)
{
	return v->len[i] == strlen(text) &&
	       memcmp(v->field[i], text, v->len[i]) == 0;
}

static int
add_service(const struct settings *s, const struct service *v, struct buf *out)
{
	if (field_is(v, 0, "smtp") && field_is(v, 1, "inet"))
		return add_front(s, v, out);
	if (!field_is(v, 7, "spawn")) {
		if (add_fields(v, 0, FIELDS, out) == -1)
			return -1;
		return buf_add(out, v->arguments, v->arguments_len);
	}
	/* swiftdrop: as many as were asked for, and its file is elsewhere. */
	if (add_fields(v, 0, 6, out) == -1)
		return -1;
	return buf_addf(out,
	    " %lld spawn\n"
	    "  user=" FILTER_USER " argv=" FILTER_PATH " -c " INI_PATH "\n",
	    (long long)s->max_processes);
}

/*
 * The server in front takes its connections from listener.c as it would from
 * postscreen(8), so that the port can be closed while it goes on.  What comes
 * after the project's own options wins.
 */
static int
add_front(const struct settings *s, const struct service *v, struct buf *out)
{
	/* Private, for user postfix alone: field 2 is "-". */
	if (buf_add_text(out, "smtpd pass -") == -1 ||
	    add_fields(v, 3, FIELDS, out) == -1 ||
	    buf_add(out, v->arguments, v->arguments_len) == -1 ||
	    buf_addf(out,
		"  -o message_size_limit=%lld\n"
		"  -o smtpd_proxy_timeout=$swiftdrop_timeout\n",
		(long long)s->message_size_limit) == -1)
		return -1;
	return s->debug ? buf_add_text(out, "  -v\n") : 0;
}

static int
add_fields(const struct service *v, size_t from, size_t to, struct buf *out)
{
	size_t i;

	for (i = from; i < to; i++)
		if ((i != 0 && buf_add_octet(out, ' ') == -1) ||
		    buf_add(out, v->field[i], v->len[i]) == -1)
			return -1;
	return 0;
}

/* Our domains; the way to swiftdrop for mail that is born inside Postfix. */
int
postconf_domains(const struct settings *s, struct buf *out)
{
	size_t i;

	for (i = 0; i < s->domains.n; i++)
		if (buf_addf(out, "%s swiftdrop-client:[127.0.0.1]:10025\n",
			s->domains.items[i]) == -1)
			return -1;
	return 0;
}

int
postconf_recipients(const struct settings *s, struct buf *out)
{
	size_t i;

	for (i = 0; i < s->recipients.n; i++)
		if (buf_addf(out, "%s stored\n", s->recipients.items[i]) == -1)
			return -1;
	return 0;
}

int
postconf_forwards(const struct settings *s, struct buf *out)
{
	if (add_forwards(s->forwards, s->nforwards, out) == -1)
		return -1;
	return add_forwards(s->postmasters, s->npostmasters, out);
}

static int
add_forwards(const struct forward *forwards, size_t n, struct buf *out)
{
	size_t i, j;

	for (i = 0; i < n; i++) {
		if (buf_add_text(out, forwards[i].address) == -1)
			return -1;
		for (j = 0; j < forwards[i].targets.n; j++)
			if (buf_addf(out, "%s %s", j == 0 ? "" : ",",
				forwards[i].targets.items[j]) == -1)
				return -1;
		if (buf_add_octet(out, '\n') == -1)
			return -1;
	}
	return 0;
}

int
postconf_ini(const struct settings *s, struct buf *out)
{
	size_t i;
	int result;

	result = buf_add_text(out, "[SMTP]\n");
	for (i = 0; result == 0 && i < s->smtp.n; i++)
		result = buf_addf(out, "%s\n", s->smtp.items[i]);
	if (result == 0)
		result = buf_add_text(out, "reinject = 127.0.0.1:10026\n"
					   "spool_directory = " SPOOL_DIR "\n"
					   "log = postlog:" LOG_PATH "\n");
	if (result == 0)
		result = add_options(s, "SMTP", out);
	if (result == 0)
		result = add_section(s, "DEFAULT", out);
	for (i = 0; result == 0 && i < s->config.naccounts; i++)
		if (strcmp(s->config.accounts[i].name, "DEFAULT") != 0)
			result =
			    add_section(s, s->config.accounts[i].name, out);
	return result;
}

/* A section with the options that the environment gives it. */
static int
add_section(const struct settings *s, const char *section, struct buf *out)
{
	if (buf_addf(out, "\n[%s]\n", section) == -1)
		return -1;
	return add_options(s, section, out);
}

static int
add_options(const struct settings *s, const char *section, struct buf *out)
{
	const struct pair *pair;
	const char *name;
	size_t i, len;

	len = strlen(section);
	for (i = 0; i < s->environment.swiftdrop.n; i++) {
		pair = &s->environment.swiftdrop.items[i];
		name = pair->name + strlen("SWIFTDROP_");
		if (strncasecmp(name, section, len) == 0 && name[len] == '_' &&
		    add_option(name + len + 1, pair->value, out) == -1)
			return -1;
	}
	return 0;
}

/* Line breaks, which only recipients have, separate as commas do. */
static int
add_option(const char *key, const char *value, struct buf *out)
{
	size_t i;

	for (i = 0; key[i] != '\0'; i++)
		if (buf_add_octet(out, ascii_lower(key[i])) == -1)
			return -1;
	if (buf_add_text(out, " = ") == -1)
		return -1;
	for (i = 0; value[i] != '\0'; i++)
		if (buf_add(out, value[i] == '\n' ? "," : &value[i], 1) == -1)
			return -1;
	return buf_add_octet(out, '\n');
}

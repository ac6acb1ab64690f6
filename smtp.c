/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The server's side of SMTP, RFC 5321 section 4: one table of commands, one
 * of mail data, one of replies.  Writes nothing itself: every handler
 * returns its reply.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "route.h"
#include "smtp.h"

#include "banned.h"

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static const struct reply replies[] = {
	[REPLY_WRITE_ERROR] = { 451, "4.3.0", "Error: queue file write error" },
	[REPLY_CONFIG_ERROR] = { 451, "4.3.5",
	    "Error: mail system configuration error" },
	[REPLY_NO_STORAGE] = { 452, "4.3.1", "Insufficient system storage" },
	[REPLY_TOO_BIG] = { 552, "5.3.4", "Message size exceeds fixed limit" },
	[REPLY_BARE_LF_DATA] = { 550, "5.5.2",
	    "Error: bare <LF> received, lines end in <CR><LF>" },
	[REPLY_BARE_LF] = { 500, "5.5.2",
	    "Error: bare <LF> received, lines end in <CR><LF>" },
	[REPLY_LINE_TOO_LONG] = { 500, "5.5.2", "Error: line too long" },
	[REPLY_UNKNOWN_450] = { 450, "4.1.1",
	    "Recipient address rejected: unknown to this filter" },
	[REPLY_UNKNOWN_550] = { 550, "5.1.1",
	    "Recipient address rejected: unknown to this filter" },
	[REPLY_RCPT_OK] = { 250, "2.1.5", "Ok" },
	[REPLY_FORWARDED] = { 250, "2.0.0", "Ok: forwarded" },
	[REPLY_TIMEOUT] = { 421, "4.4.2", "Error: timeout exceeded" },
	[REPLY_STOPPING] = { 421, "4.3.2", "Service shutting down" },
	[REPLY_TOO_MANY_ERRORS] = { 421, "4.7.0", "Error: too many errors" },
	[REPLY_REMOTE] = { 421, "4.7.0",
	    "Error: only local clients are served" },
	[REPLY_BROKEN_CONFIG] = { 421, "4.3.5",
	    "Error: mail system configuration error" },
};

static const struct reply reply_ok = { 250, "2.0.0", "Ok" };
static const struct reply reply_mail_ok = { 250, "2.1.0", "Ok" };
static const struct reply reply_vrfy = { 252, "2.0.0",
	"Cannot verify, but will try" };
static const struct reply reply_bye = { 221, "2.0.0", "Bye" };
static const struct reply reply_data = { 354, NULL,
	"End data with <CR><LF>.<CR><LF>" };
static const struct reply reply_syntax = { 501, "5.5.4",
	"Syntax error in parameters or arguments" };
static const struct reply reply_unknown = { 500, "5.5.2",
	"Error: command not recognized" };
static const struct reply reply_sequence = { 503, "5.5.1",
	"Error: bad sequence of commands" };
static const struct reply reply_parameter = { 555, "5.5.4",
	"Unsupported parameter" };
static const struct reply reply_no_recipients = { 554, "5.5.1",
	"Error: no valid recipients" };
static const struct reply reply_utf8_address = { 553, "5.6.7",
	"Internationalized address needs SMTPUTF8" };
static const struct reply reply_too_many_recipients = { 452, "4.5.3",
	"Error: too many recipients" };
static const struct reply reply_xforward_denied = { 550, "5.7.0",
	"Error: insufficient authorization" };
static const struct reply reply_no_memory = { 451, "4.3.0",
	"Error: queue file write error" };

typedef const struct reply *command_fn(struct smtp *s, char *argument);

static command_fn do_helo, do_ehlo, do_xforward, do_mail, do_rcpt, do_data,
    do_rset, do_noop, do_vrfy, do_quit;

#define IN(state) (1U << (state))
#define IN_SESSION                                                             \
	(IN(SMTP_START) | IN(SMTP_READY) | IN(SMTP_MAIL) | IN(SMTP_RCPT))
#define IN_TRANSACTION (IN(SMTP_MAIL) | IN(SMTP_RCPT))

/* Every verb we know and when it may come; RFC 5321 section 4.1.4. */
/* clang-format off */
static const struct command {
	const char *verb;
	command_fn *run;
	unsigned int allowed; /* mask of IN(state) */
	enum smtp_state next; /* after a 2yz or 3yz reply; SMTP_START: stays */
} commands[] = {
	{ "EHLO", do_ehlo, IN_SESSION, SMTP_READY },                   /* 4.1.1.1 */
	{ "HELO", do_helo, IN_SESSION, SMTP_READY },                   /* 4.1.1.1 */
	{ "XFORWARD", do_xforward, IN(SMTP_READY), SMTP_READY },       /* XFORWARD_README */
	{ "MAIL", do_mail, IN(SMTP_READY), SMTP_MAIL },                /* 4.1.1.2 */
	{ "RCPT", do_rcpt, IN_TRANSACTION, SMTP_RCPT },                /* 4.1.1.3 */
	{ "DATA", do_data, IN_TRANSACTION, SMTP_DATA },                /* 4.1.1.4 */
	{ "RSET", do_rset, IN_SESSION, SMTP_START },                   /* 4.1.1.5 */
	{ "VRFY", do_vrfy, IN_SESSION, SMTP_START },                   /* 4.1.1.6 */
	{ "NOOP", do_noop, IN_SESSION, SMTP_START },                   /* 4.1.1.9 */
	{ "QUIT", do_quit, IN_SESSION, SMTP_QUIT },                    /* 4.1.1.10 */
};

/* The parameters that we take, by the command that may carry them. */
static const struct {
	const char *keyword;
	const char *extension;
	bool of_mail;
} parameters[PARAMETER_COUNT] = {
	[PARAMETER_SIZE] = { "SIZE", "SIZE", true },                   /* RFC 1870 */
	[PARAMETER_BODY] = { "BODY", "8BITMIME", true },               /* RFC 6152 */
	[PARAMETER_SMTPUTF8] = { "SMTPUTF8", "SMTPUTF8", true },       /* RFC 6531 */
	[PARAMETER_AUTH] = { "AUTH", "AUTH", true },                   /* RFC 4954 */
	[PARAMETER_RET] = { "RET", "DSN", true },                      /* RFC 3461 */
	[PARAMETER_ENVID] = { "ENVID", "DSN", true },                  /* RFC 3461 */
	[PARAMETER_NOTIFY] = { "NOTIFY", "DSN", false },               /* RFC 3461 */
	[PARAMETER_ORCPT] = { "ORCPT", "DSN", false },                 /* RFC 3461 */
};
/* clang-format on */

static const char *const xforward_names[XFORWARD_COUNT] = { "NAME", "ADDR",
	"PORT", "PROTO", "HELO", "IDENT", "SOURCE" };

static void set_state(struct smtp *s, enum smtp_state state);
static const struct command *find_command(const char *line, size_t verb_len);
static const struct reply *run(struct smtp *s, const char *line, size_t len);
static const struct reply *count(struct smtp *s, const struct reply *r);
static bool is_domain(const char *argument);
static const struct reply *take_attribute(struct transaction *t, char *pair);
static int decode_xtext(struct buf *out, const char *text);
static int hex_digit(char c);
static const struct reply *add_recipient(struct smtp *s, struct recipient *r,
    char *argument);
static const struct reply *take_path(char **argument, const char *keyword,
    struct buf *path, struct address *a);
static const char *skip_route(const char *path);
static const struct reply *take_parameters(struct parameters *p, bool of_mail,
    char *text);
static const struct reply *take_parameter(struct parameters *p, bool of_mail,
    char *text);
static bool parameter_is_valid(enum parameter p, const char *value);
static bool is_xtext(const char *value);
static bool is_notify(const char *value);
static bool is_above_limit(const struct smtp *s);
static void parameters_init(struct parameters *p);
static void parameters_free(struct parameters *p);
static struct recipient *recipient_new(void);
static void recipient_free(struct recipient *r);
static void transaction_init(struct transaction *t);
static void transaction_reset(struct transaction *t);

void
smtp_init(struct smtp *s, const struct smtp_config *config,
    bool xforward_allowed, smtp_settle_fn *settle, void *context)
{
	*s = (struct smtp){
		.config = config,
		.xforward_allowed = xforward_allowed,
		.settle = settle,
		.context = context,
	};
	buf_init(&s->helo, SMTP_LINE_MAX);
	buf_init(&s->text, 4 * SMTP_LINE_MAX);
	transaction_init(&s->transaction);
	set_state(s, SMTP_START);
}

void
smtp_free(struct smtp *s)
{
	transaction_reset(&s->transaction);
	buf_free(&s->helo);
	buf_free(&s->text);
}

/* The only way to change the state. */
static void
set_state(struct smtp *s, enum smtp_state state)
{
	s->state = state;
}

const struct reply *
smtp_greeting(struct smtp *s)
{
	return smtp_compose(s, 220, NULL, "%s ESMTP swiftdrop",
	    s->config->hostname);
}

const struct reply *
smtp_command(struct smtp *s, const char *line, size_t len)
{
	s->refused = false;
	return count(s, run(s, line, len));
}

static const struct reply *
run(struct smtp *s, const char *line, size_t len)
{
	const struct command *command;
	const struct reply *r;
	char *copy;
	size_t verb_len;

	if (memchr(line, '\0', len) != NULL)
		return &reply_unknown;
	while (len > 0 && line[len - 1] == ' ')
		len--;
	copy = strndup(line, len);
	if (copy == NULL)
		return &reply_no_memory;
	verb_len = strcspn(copy, " ");
	command = find_command(copy, verb_len);
	if (command == NULL)
		r = &reply_unknown;
	else if ((command->allowed & IN(s->state)) == 0)
		r = &reply_sequence;
	else
		r = command->run(s,
		    copy + verb_len + strspn(copy + verb_len, " "));
	if (command != NULL && command->next != SMTP_START && r->code < 400)
		set_state(s, command->next);
	free(copy);
	return r;
}

static const struct command *
find_command(const char *line, size_t verb_len)
{
	size_t i;

	for (i = 0; i < COUNT(commands); i++)
		if (strlen(commands[i].verb) == verb_len &&
		    strncasecmp(line, commands[i].verb, verb_len) == 0)
			return &commands[i];
	return NULL;
}

static const struct reply *
count(struct smtp *s, const struct reply *r)
{
	if (r->code >= 500 && !s->refused)
		s->errors++;
	return r;
}

const struct reply *
smtp_refuse_line(struct smtp *s, enum reply_id id)
{
	s->refused = false;
	return count(s, &replies[id]);
}

static const struct reply *
do_helo(struct smtp *s, char *argument)
{
	if (!is_domain(argument))
		return &reply_syntax;
	transaction_reset(&s->transaction);
	buf_reset(&s->helo);
	if (buf_add_text(&s->helo, argument) == -1)
		return &reply_no_memory;
	return smtp_compose(s, 250, NULL, "%s", s->config->hostname);
}

static const struct reply *
do_ehlo(struct smtp *s, char *argument)
{
	const struct reply *r;

	r = do_helo(s, argument);
	if (r != &s->composed)
		return r;
	return smtp_compose(s, 250, NULL,
	    "%s\nPIPELINING\nSIZE %lld\n8BITMIME\nSMTPUTF8\n"
	    "ENHANCEDSTATUSCODES%s",
	    s->config->hostname, (long long)s->config->message_size_limit,
	    s->xforward_allowed
		? "\nXFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"
		: "");
}

/* What a client calls itself is taken as it is, if it can be printed. */
static bool
is_domain(const char *argument)
{
	return *argument != '\0' && strchr(argument, ' ') == NULL &&
	       !text_has_control(argument) &&
	       utf8_is_valid(argument, strlen(argument));
}

/* "XFORWARD NAME=value ...", values in xtext (RFC 3461 section 4). */
static const struct reply *
do_xforward(struct smtp *s, char *argument)
{
	const struct reply *r;
	char *next;

	if (!s->xforward_allowed)
		return &reply_xforward_denied;
	if (*argument == '\0')
		return &reply_syntax;
	for (; *argument != '\0'; argument = next) {
		next = argument + strcspn(argument, " ");
		if (*next != '\0')
			*next++ = '\0';
		next += strspn(next, " ");
		r = take_attribute(&s->transaction, argument);
		if (r != NULL)
			return r;
	}
	s->transaction.xforward_used = true;
	return &reply_ok;
}

static const struct reply *
take_attribute(struct transaction *t, char *pair)
{
	struct buf value;
	const char *text;
	size_t i, len;
	bool known;

	len = strcspn(pair, "=");
	for (i = 0; i < XFORWARD_COUNT; i++)
		if (strlen(xforward_names[i]) == len &&
		    strncasecmp(pair, xforward_names[i], len) == 0)
			break;
	if (i == XFORWARD_COUNT || pair[len] != '=')
		return &reply_syntax;
	buf_init(&value, SMTP_LINE_MAX);
	if (decode_xtext(&value, pair + len + 1) == -1) {
		buf_free(&value);
		return &reply_syntax;
	}
	text = buf_text(&value);
	known = strcasecmp(text, "[UNAVAILABLE]") != 0 &&
		strcasecmp(text, "[TEMPUNAVAIL]") != 0;
	buf_free(&t->xforward[i]);
	if (known)
		t->xforward[i] = value;
	else
		buf_free(&value);
	return NULL;
}

/* Refuses what decodes to a control character, which no value may hold. */
static int
decode_xtext(struct buf *out, const char *text)
{
	int c, high, low;

	for (; *text != '\0'; text++) {
		c = (unsigned char)*text;
		if (c == '+') {
			high = hex_digit(text[1]);
			low = high == -1 ? -1 : hex_digit(text[2]);
			if (low == -1)
				return -1;
			c = high * 16 + low;
			text += 2;
		}
		if (c < ' ' || c == 0x7f || buf_add_octet(out, (char)c) == -1)
			return -1;
	}
	return 0;
}

static int
hex_digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *p;

	p = c == '\0' ? NULL : strchr(digits, ascii_lower(c));
	return p == NULL ? -1 : (int)(p - digits);
}

static const struct reply *
do_mail(struct smtp *s, char *argument)
{
	struct transaction *t;
	struct address a;
	const struct reply *r;

	t = &s->transaction;
	buf_reset(&t->reverse_path);
	parameters_free(&t->parameters);
	address_init(&a);
	r = take_path(&argument, "FROM:", &t->reverse_path, &a);
	if (r == NULL)
		r = take_parameters(&t->parameters, true, argument);
	if (r == NULL && a.utf8 && !t->parameters.given[PARAMETER_SMTPUTF8])
		r = &reply_utf8_address;
	if (r == NULL && is_above_limit(s))
		r = &replies[REPLY_TOO_BIG];
	address_free(&a);
	return r == NULL ? &reply_mail_ok : r;
}

static bool
is_above_limit(const struct smtp *s)
{
	const struct parameters *p;
	long long size;

	p = &s->transaction.parameters;
	if (!p->given[PARAMETER_SIZE])
		return false;
	errno = 0;
	size = strtoll(buf_text(&p->value[PARAMETER_SIZE]), NULL, 10);
	return errno == ERANGE || size > s->config->message_size_limit;
}

static const struct reply *
do_rcpt(struct smtp *s, char *argument)
{
	struct recipient *recipient;
	struct transaction *t;
	const struct reply *r;

	t = &s->transaction;
	recipient = recipient_new();
	if (recipient == NULL)
		return &reply_no_memory;
	r = add_recipient(s, recipient, argument);
	if (r->code >= 300) {
		t->nrefused++;
		recipient_free(recipient);
		return r;
	}
	t->recipients[t->nrecipients++] = recipient;
	return r;
}

/* Checks and settles a recipient; makes room for it, but does not keep it. */
static const struct reply *
add_recipient(struct smtp *s, struct recipient *recipient, char *argument)
{
	struct transaction *t;
	struct recipient **recipients;
	const struct reply *r;

	t = &s->transaction;
	r = take_path(&argument, "TO:", &recipient->path, &recipient->address);
	if (r == NULL && recipient->path.len == 0)
		r = &reply_syntax;
	if (r == NULL)
		r = take_parameters(&recipient->parameters, false, argument);
	if (r == NULL && recipient->address.utf8 &&
	    !t->parameters.given[PARAMETER_SMTPUTF8])
		r = &reply_utf8_address;
	if (r != NULL)
		return r;
	if (t->nrecipients >= (size_t)s->config->recipient_limit)
		return &reply_too_many_recipients;
	recipients = reallocarray(t->recipients, t->nrecipients + 1,
	    sizeof(*recipients));
	if (recipients == NULL)
		return &reply_no_memory;
	t->recipients = recipients;
	r = s->settle(s->context, recipient);
	s->refused = r->code >= 300;
	return r;
}

static const struct reply *
do_data(struct smtp *s, char *argument)
{
	if (*argument != '\0')
		return &reply_syntax;
	if (s->transaction.nrecipients > 0)
		return &reply_data;
	return s->transaction.nrefused > 0 ? &reply_no_recipients
					   : &reply_sequence;
}

static const struct reply *
do_rset(struct smtp *s, char *argument)
{
	if (*argument != '\0')
		return &reply_syntax;
	transaction_reset(&s->transaction);
	if (s->state != SMTP_START)
		set_state(s, SMTP_READY);
	return &reply_ok;
}

static const struct reply *
do_noop(struct smtp *s, char *argument)
{
	(void)s;
	(void)argument;
	return &reply_ok;
}

static const struct reply *
do_vrfy(struct smtp *s, char *argument)
{
	(void)s;
	return *argument == '\0' ? &reply_syntax : &reply_vrfy;
}

static const struct reply *
do_quit(struct smtp *s, char *argument)
{
	(void)s;
	return *argument == '\0' ? &reply_bye : &reply_syntax;
}

/*
 * Takes "FROM:<path>" or "TO:<path>" off *argument.  As Postfix does by
 * default, a blank may follow the colon, blanks may stand around the mailbox
 * inside the brackets, and the brackets may be missing.
 * Returns NULL, or the reply that refuses it.
 */
static const struct reply *
take_path(char **argument, const char *keyword, struct buf *path,
    struct address *a)
{
	const char *p, *end;
	size_t len;
	bool brackets;

	p = *argument;
	if (strncasecmp(p, keyword, strlen(keyword)) != 0)
		return &reply_syntax;
	p += strlen(keyword);
	p += strspn(p, " ");
	brackets = *p == '<';
	if (brackets)
		p = skip_route(p + 1 + strspn(p + 1, " "));
	if (p == NULL)
		return &reply_syntax;
	p += strspn(p, " ");
	len = address_span(p, strlen(p), brackets);
	end = p + len;
	if ((*end == '>') != brackets || (len == 0 && !brackets))
		return &reply_syntax;
	while (len > 0 && p[len - 1] == ' ')
		len--;
	if (len > 0 && address_parse(a, p, len) == -1)
		return errno == ENOMEM ? &reply_no_memory : &reply_syntax;
	if (buf_add(path, p, len) == -1)
		return &reply_no_memory;
	p = end + (brackets ? 1 : 0);
	if (*p != '\0' && *p != ' ')
		return &reply_syntax;
	*argument += p - *argument;
	return NULL;
}

/* Passes "@one,@two:"; NULL when it does not end (RFC 5321 appendix C). */
static const char *
skip_route(const char *path)
{
	bool literal;

	if (*path != '@')
		return path;
	for (literal = false; *path != '\0' && *path != '>'; path++) {
		if (*path == '[' || *path == ']')
			literal = *path == '[';
		if (*path == ':' && !literal)
			return path + 1;
	}
	return NULL;
}

/* NULL, or the reply that refuses one of the parameters. */
static const struct reply *
take_parameters(struct parameters *p, bool of_mail, char *text)
{
	const struct reply *r;
	char *next;

	for (text += strspn(text, " "); *text != '\0'; text = next) {
		next = text + strcspn(text, " ");
		if (*next != '\0')
			*next++ = '\0';
		next += strspn(next, " ");
		r = take_parameter(p, of_mail, text);
		if (r != NULL)
			return r;
	}
	return NULL;
}

static const struct reply *
take_parameter(struct parameters *p, bool of_mail, char *text)
{
	char *value;
	size_t i;

	value = strchr(text, '=');
	if (value != NULL)
		*value++ = '\0';
	for (i = 0; i < PARAMETER_COUNT; i++)
		if (parameters[i].of_mail == of_mail &&
		    strcasecmp(parameters[i].keyword, text) == 0)
			break;
	if (i == PARAMETER_COUNT)
		return &reply_parameter;
	if (p->given[i] || (value == NULL) != (i == PARAMETER_SMTPUTF8) ||
	    (value != NULL && !parameter_is_valid((enum parameter)i, value)))
		return &reply_syntax;
	p->given[i] = true;
	if (value != NULL && buf_add_text(&p->value[i], value) == -1)
		return &reply_no_memory;
	return NULL;
}

static bool
parameter_is_valid(enum parameter p, const char *value)
{
	size_t len;

	len = strlen(value);
	switch (p) {
	case PARAMETER_SIZE:
		return len > 0 && len <= 20 &&
		       strspn(value, "0123456789") == len;
	case PARAMETER_BODY:
		return strcasecmp(value, "7BIT") == 0 ||
		       strcasecmp(value, "8BITMIME") == 0;
	case PARAMETER_RET:
		return strcasecmp(value, "FULL") == 0 ||
		       strcasecmp(value, "HDRS") == 0;
	case PARAMETER_NOTIFY:
		return is_notify(value);
	case PARAMETER_ORCPT:
		return is_xtext(value) && strchr(value, ';') != NULL;
	case PARAMETER_AUTH:
	case PARAMETER_ENVID:
		return is_xtext(value);
	case PARAMETER_SMTPUTF8:
	case PARAMETER_COUNT:
		break;
	}
	return false;
}

/* Printable, and UTF-8 for utf-8-addr-xtext (RFC 6533 section 3). */
static bool
is_xtext(const char *value)
{
	const char *p;

	for (p = value; *p != '\0'; p++)
		if ((*p & 0x80) == 0 && (*p <= ' ' || *p > '~'))
			return false;
	return p != value && utf8_is_valid(value, strlen(value));
}

/* RFC 3461 section 4.1 */
static bool
is_notify(const char *value)
{
	static const char *const words[] = { "SUCCESS", "FAILURE", "DELAY" };
	size_t i, len;

	if (strcasecmp(value, "NEVER") == 0)
		return true;
	for (;; value += len + 1) {
		len = strcspn(value, ",");
		for (i = 0; i < COUNT(words); i++)
			if (strlen(words[i]) == len &&
			    strncasecmp(words[i], value, len) == 0)
				break;
		if (i == COUNT(words))
			return false;
		if (value[len] == '\0')
			return true;
	}
}

void
smtp_end_of_data(struct smtp *s, const struct reply *reply)
{
	s->refused = false;
	(void)count(s, reply);
	transaction_reset(&s->transaction);
	set_state(s, SMTP_READY);
}

bool
smtp_too_many_errors(const struct smtp *s)
{
	return s->errors >= SMTP_ERRORS_MAX;
}

const struct reply *
smtp_reply(enum reply_id id)
{
	return &replies[id];
}

const char *
smtp_reply_status(const struct reply *r, char code[16])
{
	size_t len;

	if (r->status != NULL)
		return r->status;
	len = strspn(r->text, "0123456789.");
	if (len < 5 || len >= 16 || r->text[1] != '.')
		len = 0;
	memcpy(code, r->text, len);
	code[len] = '\0';
	return code;
}

const struct reply *
smtp_compose(struct smtp *s, int code, const char *status, const char *format,
    ...)
{
	va_list args;

	buf_reset(&s->text);
	va_start(args, format);
	(void)buf_vaddf(&s->text, format, args);
	va_end(args);
	s->composed = (struct reply){ code, status, buf_text(&s->text) };
	return &s->composed;
}

int
smtp_format(const struct reply *r, struct buf *out)
{
	const char *line;
	size_t len;

	for (line = r->text;; line += len + 1) {
		len = strcspn(line, "\n");
		if (buf_addf(out, "%03d%c%s%s%.*s\r\n", r->code,
			line[len] == '\0' ? ' ' : '-',
			r->status == NULL ? "" : r->status,
			r->status == NULL ? "" : " ", (int)len, line) == -1)
			return -1;
		if (line[len] == '\0')
			return 0;
	}
}

const char *
smtp_parameter_keyword(enum parameter p)
{
	return parameters[p].keyword;
}

const char *
smtp_parameter_extension(enum parameter p)
{
	return parameters[p].extension;
}

const char *
smtp_xforward_name(enum xforward x)
{
	return xforward_names[x];
}

static void
parameters_init(struct parameters *p)
{
	size_t i;

	*p = (struct parameters){ .given = { false } };
	for (i = 0; i < PARAMETER_COUNT; i++)
		buf_init(&p->value[i], SMTP_LINE_MAX);
}

/* Leaves them empty and ready for use. */
static void
parameters_free(struct parameters *p)
{
	size_t i;

	for (i = 0; i < PARAMETER_COUNT; i++)
		buf_free(&p->value[i]);
	parameters_init(p);
}

static struct recipient *
recipient_new(void)
{
	struct recipient *r;

	r = calloc(1, sizeof(*r));
	if (r == NULL)
		return NULL;
	buf_init(&r->path, SMTP_LINE_MAX);
	address_init(&r->address);
	parameters_init(&r->parameters);
	r->account = ROUTE_NONE;
	return r;
}

static void
recipient_free(struct recipient *r)
{
	if (r == NULL)
		return;
	buf_free(&r->path);
	address_free(&r->address);
	parameters_free(&r->parameters);
	free(r);
}

static void
transaction_init(struct transaction *t)
{
	size_t i;

	*t = (struct transaction){ .recipients = NULL };
	buf_init(&t->reverse_path, SMTP_LINE_MAX);
	parameters_init(&t->parameters);
	for (i = 0; i < XFORWARD_COUNT; i++)
		buf_init(&t->xforward[i], SMTP_LINE_MAX);
}

/*
 * Ends a transaction: RSET, EHLO, HELO and the end of data (RFC 5321
 * sections 4.1.1.5 and 4.1.4).  XFORWARD attributes end with it, as in
 * Postfix's mail_reset().
 */
static void
transaction_reset(struct transaction *t)
{
	size_t i;

	for (i = 0; i < t->nrecipients; i++)
		recipient_free(t->recipients[i]);
	free(t->recipients);
	buf_free(&t->reverse_path);
	parameters_free(&t->parameters);
	for (i = 0; i < XFORWARD_COUNT; i++)
		buf_free(&t->xforward[i]);
	transaction_init(t);
}

/*
 * Mail data, RFC 5321 sections 4.1.1.4 and 4.5.2.  Only a dot that began a
 * line is held back, and a CR behind it, until it is clear what they are.
 */
enum octet_class {
	OCTET_CR,
	OCTET_LF,
	OCTET_DOT,
	OCTET_OTHER,
	OCTET_COUNT
};

enum data_action {
	ACTION_PUT,    /* it is content */
	ACTION_DROP,   /* it is not, or not yet */
	ACTION_CR_PUT, /* so is the CR that was held back */
	ACTION_BARE,   /* content that the message is refused for */
	ACTION_END
};

/* clang-format off */
static const struct {
	enum data_state next;
	enum data_action action;
} data_table[DATA_END][OCTET_COUNT] = {
	[DATA_LINE] = {
		[OCTET_CR] = { DATA_CR, ACTION_PUT },
		[OCTET_LF] = { DATA_TEXT, ACTION_BARE },
		[OCTET_DOT] = { DATA_DOT, ACTION_DROP },
		[OCTET_OTHER] = { DATA_TEXT, ACTION_PUT } },
	[DATA_TEXT] = {
		[OCTET_CR] = { DATA_CR, ACTION_PUT },
		[OCTET_LF] = { DATA_TEXT, ACTION_BARE },
		[OCTET_DOT] = { DATA_TEXT, ACTION_PUT },
		[OCTET_OTHER] = { DATA_TEXT, ACTION_PUT } },
	[DATA_CR] = {
		[OCTET_CR] = { DATA_CR, ACTION_PUT },
		[OCTET_LF] = { DATA_LINE, ACTION_PUT },
		[OCTET_DOT] = { DATA_TEXT, ACTION_PUT },
		[OCTET_OTHER] = { DATA_TEXT, ACTION_PUT } },
	[DATA_DOT] = {
		[OCTET_CR] = { DATA_DOT_CR, ACTION_DROP },
		[OCTET_LF] = { DATA_TEXT, ACTION_BARE },
		[OCTET_DOT] = { DATA_TEXT, ACTION_PUT },
		[OCTET_OTHER] = { DATA_TEXT, ACTION_PUT } },
	[DATA_DOT_CR] = {
		[OCTET_CR] = { DATA_CR, ACTION_CR_PUT },
		[OCTET_LF] = { DATA_END, ACTION_END },
		[OCTET_DOT] = { DATA_TEXT, ACTION_CR_PUT },
		[OCTET_OTHER] = { DATA_TEXT, ACTION_CR_PUT } },
};
/* clang-format on */

static enum octet_class classify(char octet);

void
smtp_data_init(struct data *d)
{
	*d = (struct data){ .state = DATA_LINE };
}

size_t
smtp_data_decode(struct data *d, const char *in, size_t len, smtp_sink_fn *sink,
    void *context)
{
	enum data_action action;
	enum octet_class class;
	size_t i, run_start;

	/* Content goes out in runs, from run_start up to what is dropped. */
	run_start = 0;
	for (i = 0; i < len && d->state != DATA_END; i++) {
		class = classify(in[i]);
		action = data_table[d->state][class].action;
		d->state = data_table[d->state][class].next;
		if (action == ACTION_PUT)
			continue;
		if (action == ACTION_BARE) {
			d->bare_lf = true;
			continue;
		}
		if (i > run_start)
			sink(context, in + run_start, i - run_start);
		run_start = i + 1;
		if (action == ACTION_CR_PUT) {
			sink(context, "\r", 1);
			run_start = i;
		}
	}
	if (i > run_start)
		sink(context, in + run_start, i - run_start);
	return i;
}

static enum octet_class
classify(char octet)
{
	switch (octet) {
	case '\r':
		return OCTET_CR;
	case '\n':
		return OCTET_LF;
	case '.':
		return OCTET_DOT;
	default:
		return OCTET_OTHER;
	}
}

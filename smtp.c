/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The server's side of SMTP, RFC 5321 section 4: the replies, one table of
 * commands, one of parameters, and mail data.  Writes nothing itself: every
 * handler returns its reply.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "route.h"
#include "smtp.h"
#include "text.h"

#include "banned.h"

/* clang-format off */
#define REPLY(name, code, status, text) \
	const struct reply reply_##name = { code, status, text }
#define OWN_REPLY(name, code, status, text) \
	static REPLY(name, code, status, text)

REPLY(write_error, 451, "4.3.0", "Error: queue file write error");
REPLY(config_error, 451, "4.3.5", "Error: mail system configuration error");
REPLY(no_storage, 452, "4.3.1", "Insufficient system storage");
REPLY(too_big, 552, "5.3.4", "Message size exceeds fixed limit");
REPLY(bare_lf_data, 550, "5.5.2", "Error: bare <LF> received, lines end in <CR><LF>");
REPLY(bare_lf, 500, "5.5.2", "Error: bare <LF> received, lines end in <CR><LF>");
REPLY(line_too_long, 500, "5.5.2", "Error: line too long");
REPLY(unknown_450, 450, "4.1.1", "Recipient address rejected: unknown to this filter");
REPLY(unknown_550, 550, "5.1.1", "Recipient address rejected: unknown to this filter");
REPLY(rcpt_ok, 250, "2.1.5", "Ok");
REPLY(forwarded, 250, "2.0.0", "Ok: forwarded");
REPLY(timeout, 421, "4.4.2", "Error: timeout exceeded");
REPLY(stopping, 421, "4.3.2", "Service shutting down");
REPLY(too_many_errors, 421, "4.7.0", "Error: too many errors");
REPLY(remote, 421, "4.7.0", "Error: only local clients are served");
REPLY(spam, 550, "5.7.1", "Message refused as spam");
REPLY(try_later, 451, "4.7.1", "Try again later");
REPLY(broken_config, 421, "4.3.5", "Error: mail system configuration error");

const char smtp_no_memory[] = "421 4.3.0 Error: insufficient resources\r\n";

OWN_REPLY(ok, 250, "2.0.0", "Ok");
OWN_REPLY(mail_ok, 250, "2.1.0", "Ok");
OWN_REPLY(vrfy, 252, "2.0.0", "Cannot verify, but will try");
OWN_REPLY(bye, 221, "2.0.0", "Bye");
OWN_REPLY(data, 354, NULL, "End data with <CR><LF>.<CR><LF>");
OWN_REPLY(syntax, 501, "5.5.4", "Syntax error in parameters or arguments");
OWN_REPLY(unknown, 500, "5.5.2", "Error: command not recognized");
OWN_REPLY(sequence, 503, "5.5.1", "Error: bad sequence of commands");
OWN_REPLY(parameter, 555, "5.5.4", "Unsupported parameter");
OWN_REPLY(no_recipients, 554, "5.5.1", "Error: no valid recipients");
OWN_REPLY(utf8_address, 553, "5.6.7", "Internationalized address needs SMTPUTF8");
OWN_REPLY(too_many_recipients, 452, "4.5.3", "Error: too many recipients");
OWN_REPLY(lmtp, 421, "4.5.1", "Error: SMTP, not LMTP");
OWN_REPLY(xforward_denied, 550, "5.7.0", "Error: insufficient authorization");
/* clang-format on */

static bool
is_number(const char *value)
{
	return *value != '\0' && value[strspn(value, "0123456789")] == '\0';
}

static bool
is_body(const char *value)
{
	return strcasecmp(value, "7BIT") == 0 ||
	       strcasecmp(value, "8BITMIME") == 0;
}

static bool
is_ret(const char *value)
{
	return strcasecmp(value, "FULL") == 0 || strcasecmp(value, "HDRS") == 0;
}

/* As an xtext, in UTF-8 for utf-8-addr-xtext (RFC 6533 section 3). */
static bool
is_printable(const char *value)
{
	return !text_has_control(value) && utf8_is_valid(value, strlen(value));
}

static bool
is_orcpt(const char *value)
{
	return is_printable(value) && strchr(value, ';') != NULL;
}

/* RFC 3461 section 4.1 */
static bool
is_notify(const char *value)
{
	size_t len;

	if (strcasecmp(value, "NEVER") == 0)
		return true;
	for (;; value += len + 1) {
		len = strcspn(value, ",");
		if (!text_is(value, len, "SUCCESS") &&
		    !text_is(value, len, "FAILURE") &&
		    !text_is(value, len, "DELAY"))
			return false;
		if (value[len] == '\0')
			return true;
	}
}

/* clang-format off */
const struct smtp_parameter smtp_parameters[PARAMETERS] = {
	[PARAMETER_SIZE] = { "SIZE", "SIZE", true, is_number },            /* RFC 1870 */
	[PARAMETER_BODY] = { "BODY", "8BITMIME", true, is_body },          /* RFC 6152 */
	[PARAMETER_SMTPUTF8] = { "SMTPUTF8", "SMTPUTF8", true, NULL },     /* RFC 6531 */
	[PARAMETER_AUTH] = { "AUTH", "AUTH", true, is_printable },         /* RFC 4954 */
	[PARAMETER_RET] = { "RET", "DSN", true, is_ret },                  /* RFC 3461 */
	[PARAMETER_ENVID] = { "ENVID", "DSN", true, is_printable },        /* RFC 3461 */
	[PARAMETER_NOTIFY] = { "NOTIFY", "DSN", false, is_notify },        /* RFC 3461 */
	[PARAMETER_ORCPT] = { "ORCPT", "DSN", false, is_orcpt },           /* RFC 3461 */
};
/* clang-format on */

const char *const smtp_xforward_names[XFORWARDS] = { "NAME", "ADDR", "PORT",
	"PROTO", "HELO", "IDENT", "SOURCE" };

static void
free_texts(char **texts, size_t n)
{
	while (n-- > 0) {
		free(texts[n]);
		texts[n] = NULL;
	}
}

static void
recipient_free(struct recipient *r)
{
	free(r->path);
	free_texts(r->parameters, PARAMETERS);
	address_free(&r->address);
	free(r);
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
	free(t->reverse_path);
	free_texts(t->parameters, PARAMETERS);
	free_texts(t->xforward, XFORWARDS);
	*t = (struct transaction){ .recipients = NULL };
}

void
smtp_init(struct smtp *s, const struct smtp_config *config,
    bool xforward_allowed, smtp_settle_fn *settle, void *context)
{
	*s = (struct smtp){
		.config = config,
		.xforward_allowed = xforward_allowed,
		.settle = settle,
		.context = context,
		.text = { .max = 4 * SMTP_LINE_MAX },
	};
}

void
smtp_free(struct smtp *s)
{
	transaction_reset(&s->transaction);
	buf_free(&s->text);
}

const struct reply *
smtp_greeting(struct smtp *s)
{
	return smtp_compose(s, 220, "%s ESMTP swiftdrop", s->config->hostname);
}

const struct reply *
smtp_refuse(struct smtp *s, const struct reply *r)
{
	if (r->code >= 500)
		s->errors++;
	return r;
}

/* Cuts the next word off *text; NULL at the end. */
static char *
next_word(char **text)
{
	char *word = *text + strspn(*text, SMTP_BLANKS);

	*text = word + strcspn(word, SMTP_BLANKS);
	if (**text != '\0')
		*(*text)++ = '\0';
	return *word == '\0' ? NULL : word;
}

/* What a client calls itself is taken as it is, if it can be printed. */
static const struct reply *
do_helo(struct smtp *s, char *argument)
{
	if (strchr(argument, ' ') != NULL || !is_printable(argument))
		return &reply_syntax;
	transaction_reset(&s->transaction);
	return smtp_compose(s, 250, "%s", s->config->hostname);
}

static const struct reply *
do_ehlo(struct smtp *s, char *argument)
{
	const struct reply *r = do_helo(s, argument);
	size_t i;

	if (r != &s->composed)
		return r;
	buf_addf(&s->text,
	    "\nPIPELINING\nSIZE %lld\n8BITMIME\nSMTPUTF8\nENHANCEDSTATUSCODES",
	    (long long)s->config->message_size_limit);
	if (s->xforward_allowed)
		buf_adds(&s->text, "\nXFORWARD");
	for (i = 0; s->xforward_allowed && i < XFORWARDS; i++)
		buf_addf(&s->text, " %s", smtp_xforward_names[i]);
	s->composed.text = buf_text(&s->text);
	return r;
}

/*
 * Decodes xtext (RFC 3461 section 4) in place; false where it is none, or
 * decodes to a control character, which no value may hold.
 */
static bool
decode_xtext(char *text)
{
	char code[3] = "", *out;

	for (out = text; *text != '\0'; text++, out++) {
		*out = *text;
		if (*text == '+') {
			if (strspn(text + 1, "0123456789ABCDEFabcdef") < 2)
				return false;
			memcpy(code, text + 1, 2);
			*out = (char)strtol(code, NULL, 16);
			text += 2;
		}
		if (is_control(*out))
			return false;
	}
	*out = '\0';
	return true;
}

/* "XFORWARD NAME=value ..." */
static const struct reply *
do_xforward(struct smtp *s, char *argument)
{
	char *value, *word, **x;
	size_t i, len;

	if (!s->xforward_allowed)
		return &reply_xforward_denied;
	if (*argument == '\0')
		return &reply_syntax;
	while ((word = next_word(&argument)) != NULL) {
		len = strcspn(word, "=");
		for (i = 0; i < XFORWARDS; i++)
			if (text_is(word, len, smtp_xforward_names[i]))
				break;
		value = word + len + 1;
		if (i == XFORWARDS || word[len] != '=' || !decode_xtext(value))
			return &reply_syntax;
		x = &s->transaction.xforward[i];
		free_texts(x, 1);
		if (*value != '\0' && strcasecmp(value, "[UNAVAILABLE]") != 0 &&
		    strcasecmp(value, "[TEMPUNAVAIL]") != 0 &&
		    (*x = strdup(value)) == NULL)
			return &reply_write_error;
	}
	s->transaction.xforward_used = s->in_front = true;
	return &reply_ok;
}

/* Passes "@one,@two:"; NULL when it does not end (RFC 5321 appendix C). */
static char *
skip_route(char *path)
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

/*
 * Takes "FROM:<path>" or "TO:<path>" off *argument.  As Postfix does by
 * default, a blank may follow the colon, blanks may stand around the mailbox
 * inside the brackets, and the brackets may be missing or come twice.
 * taken: the server in front took it; it may be what we know no grammar for.
 * Returns NULL, or the reply that refuses it.
 */
static const struct reply *
take_path(char **argument, const char *keyword, bool taken, char **path,
    struct address *a)
{
	size_t brackets, len;
	char *end, *p;
	bool good;

	if (!text_begins(*argument, keyword))
		return &reply_syntax;
	p = *argument + strlen(keyword);
	p += strspn(p, SMTP_BLANKS);
	for (brackets = 0; *p == '<'; brackets++)
		p += 1 + strspn(p + 1, SMTP_BLANKS);
	if (brackets > 0)
		p = skip_route(p);
	if (p == NULL)
		return &reply_syntax;
	p += strspn(p, SMTP_BLANKS);
	len = address_span(p, brackets > 0 ? ">" : SMTP_BLANKS);
	if (len == 0 && brackets == 0)
		return &reply_syntax;
	for (end = p + len; brackets > 0; brackets--) {
		end += strspn(end, SMTP_BLANKS);
		if (*end++ != '>')
			return &reply_syntax;
	}
	if (strchr(SMTP_BLANKS, *end) == NULL)
		return &reply_syntax;
	*argument = end;
	while (len > 0 && strchr(SMTP_BLANKS, p[len - 1]) != NULL)
		len--;
	*path = strndup(p, len);
	if (*path == NULL)
		return &reply_write_error;
	good = len == 0 || address_parse(a, p, len);
	/* What there is no memory for may be an address all the same. */
	if (a->local.error != 0 || a->domain.error != 0)
		return &reply_write_error;
	return good || (taken && is_printable(*path)) ? NULL : &reply_syntax;
}

/* NULL, or the reply that refuses one of the parameters. */
static const struct reply *
take_parameters(char **parameters, bool of_mail, char *text)
{
	const struct smtp_parameter *p;
	char *value, *word;
	size_t i;

	while ((word = next_word(&text)) != NULL) {
		value = strchr(word, '=');
		if (value != NULL)
			*value++ = '\0';
		for (i = 0; i < PARAMETERS; i++)
			if (smtp_parameters[i].of_mail == of_mail &&
			    strcasecmp(smtp_parameters[i].keyword, word) == 0)
				break;
		if (i == PARAMETERS)
			return &reply_parameter;
		p = &smtp_parameters[i];
		if ((value == NULL) != (p->is_valid == NULL) ||
		    (value != NULL && !p->is_valid(value)))
			return &reply_syntax;
		/* Of one that is given twice the last counts, as in Postfix. */
		free(parameters[i]);
		parameters[i] = strdup(value == NULL ? "" : value);
		if (parameters[i] == NULL)
			return &reply_write_error;
	}
	return NULL;
}

static const struct reply *
do_mail(struct smtp *s, char *argument)
{
	struct transaction *t = &s->transaction;
	const struct reply *r;
	const char *size;
	ADDRESS(a);

	/* What a MAIL that was refused has left; XFORWARD stays. */
	free_texts(&t->reverse_path, 1);
	free_texts(t->parameters, PARAMETERS);
	r = take_path(&argument, "FROM:", s->in_front, &t->reverse_path, &a);
	if (r == NULL)
		r = take_parameters(t->parameters, true, argument);
	if (r != NULL)
		return r;
	if (strlen(t->reverse_path) > SMTP_PATH_MAX)
		return &reply_syntax;
	if (a.utf8 && t->parameters[PARAMETER_SMTPUTF8] == NULL && !s->in_front)
		return &reply_utf8_address;
	size = t->parameters[PARAMETER_SIZE];
	/* What is out of range becomes the largest number. */
	if (size != NULL &&
	    strtoll(size, NULL, 10) > s->config->message_size_limit)
		return &reply_too_big;
	return &reply_mail_ok;
}

/* Checks and settles a recipient. */
static const struct reply *
check_recipient(struct smtp *s, struct recipient *recipient, char *argument)
{
	struct transaction *t = &s->transaction;
	struct recipient **recipients;
	const struct reply *r;

	r = take_path(&argument, "TO:", false, &recipient->path,
	    &recipient->address);
	if (r == NULL && *recipient->path == '\0')
		r = &reply_syntax;
	if (r == NULL)
		r = take_parameters(recipient->parameters, false, argument);
	if (r != NULL)
		return r;
	if (recipient->address.utf8 &&
	    t->parameters[PARAMETER_SMTPUTF8] == NULL && !s->in_front)
		return &reply_utf8_address;
	if (t->nrecipients >= (size_t)s->config->recipient_limit)
		return &reply_too_many_recipients;
	recipients = reallocarray(t->recipients, t->nrecipients + 1,
	    sizeof(*recipients));
	if (recipients == NULL)
		return &reply_write_error;
	t->recipients = recipients;
	return s->settle(s->context, recipient);
}

static const struct reply *
do_rcpt(struct smtp *s, char *argument)
{
	struct transaction *t = &s->transaction;
	struct recipient *recipient = malloc(sizeof(*recipient));
	const struct reply *r;

	if (recipient == NULL)
		return &reply_write_error;
	*recipient = (struct recipient){
		.address = { { .max = ADDRESS_MAX }, { .max = ADDRESS_MAX },
		    false, false },
		.account = ROUTE_NONE,
	};
	r = check_recipient(s, recipient, argument);
	if (r->code < 300) {
		t->recipients[t->nrecipients++] = recipient;
	} else {
		t->nrefused++;
		recipient_free(recipient);
	}
	return r;
}

static const struct reply *
do_data(struct smtp *s, char *argument)
{
	(void)argument;
	if (s->transaction.nrecipients > 0)
		return &reply_data;
	return s->transaction.nrefused > 0 ? &reply_no_recipients
					   : &reply_sequence;
}

static const struct reply *
do_rset(struct smtp *s, char *argument)
{
	(void)argument;
	transaction_reset(&s->transaction);
	return &reply_ok;
}

typedef const struct reply *command_fn(struct smtp *s, char *argument);

/* Whether a command has an argument. */
enum argument {
	ANY,
	NEEDED,
	NONE
};

#define IN(state)      (1U << (state))
#define IN_TRANSACTION (IN(SMTP_MAIL) | IN(SMTP_RCPT))
#define IN_SESSION     (IN(SMTP_START) | IN(SMTP_READY) | IN_TRANSACTION)

/* clang-format off */
/* Every verb we know and when it may come; RFC 5321 section 4.1.4. */
static const struct command {
	const char *verb;
	command_fn *run;           /* or NULL: the reply is always the same */
	const struct reply *reply; /* that one */
	enum argument argument;
	unsigned int allowed;      /* mask of IN(state) */
	enum smtp_state next;      /* after a 2yz or 3yz reply */
} commands[] = {
	{ "EHLO", do_ehlo, NULL, NEEDED, IN_SESSION, SMTP_READY },              /* 4.1.1.1 */
	{ "HELO", do_helo, NULL, NEEDED, IN_SESSION, SMTP_READY },              /* 4.1.1.1 */
	/* 5yz would make an LMTP client bounce what a mistake has sent here. */
	{ "LHLO", NULL, &reply_lmtp, ANY, IN_SESSION, SMTP_QUIT },              /* RFC 2033 */
	{ "XFORWARD", do_xforward, NULL, ANY, IN(SMTP_READY), SMTP_READY },     /* XFORWARD_README */
	{ "MAIL", do_mail, NULL, ANY, IN(SMTP_READY), SMTP_MAIL },              /* 4.1.1.2 */
	{ "RCPT", do_rcpt, NULL, ANY, IN_TRANSACTION, SMTP_RCPT },              /* 4.1.1.3 */
	{ "DATA", do_data, NULL, NONE, IN_TRANSACTION, SMTP_DATA },             /* 4.1.1.4 */
	{ "RSET", do_rset, NULL, NONE, IN(SMTP_START), SMTP_START },            /* 4.1.1.5 */
	{ "RSET", do_rset, NULL, NONE, IN_SESSION, SMTP_READY },
	{ "VRFY", NULL, &reply_vrfy, NEEDED, IN_SESSION, SMTP_SAME },           /* 4.1.1.6 */
	{ "NOOP", NULL, &reply_ok, ANY, IN_SESSION, SMTP_SAME },                /* 4.1.1.9 */
	{ "QUIT", NULL, &reply_bye, NONE, IN_SESSION, SMTP_QUIT },              /* 4.1.1.10 */
};
/* clang-format on */

/* The row of a verb for this state, else any row of that verb, else NULL. */
static const struct command *
find_command(const struct smtp *s, const char *verb)
{
	const struct command *found = NULL;
	size_t i;

	for (i = 0; i < COUNT(commands); i++) {
		if (strcasecmp(verb, commands[i].verb) != 0)
			continue;
		found = &commands[i];
		if ((found->allowed & IN(s->state)) != 0)
			break;
	}
	return found;
}

/*
 * Runs a command whose argument is there, or not, as it must be.  What the
 * server in front has taken must not bounce: where we cannot, the two
 * disagree, which is a fault of the configuration.
 */
static const struct reply *
run(struct smtp *s, const struct command *command, char *argument)
{
	const struct reply *r;

	if (command->argument == (*argument == '\0' ? NEEDED : NONE))
		r = &reply_syntax;
	else if (command->run == NULL)
		r = command->reply;
	else
		r = command->run(s, argument);
	if (!s->in_front || r->code < 500 ||
	    (IN(command->next) & IN_TRANSACTION) == 0 || r == &reply_too_big ||
	    r == &reply_unknown_550 || r == &s->composed)
		return r;
	s->softened = r;
	return &reply_config_error;
}

const struct reply *
smtp_command(struct smtp *s, const char *line, size_t len)
{
	const struct command *command;
	const struct reply *r;
	char *argument, *copy, *verb;

	if (memchr(line, '\0', len) != NULL)
		return smtp_refuse(s, &reply_unknown);
	while (len > 0 && strchr(SMTP_BLANKS, line[len - 1]) != NULL)
		len--;
	copy = strndup(line, len);
	if (copy == NULL)
		return &reply_write_error;
	argument = copy;
	verb = next_word(&argument);
	argument += strspn(argument, SMTP_BLANKS);
	command = find_command(s, verb == NULL ? "" : verb);
	if (command == NULL)
		r = &reply_unknown;
	else if ((command->allowed & IN(s->state)) == 0)
		r = &reply_sequence;
	else
		r = run(s, command, argument);
	/* The only place, but for the end of data, where the state changes. */
	if ((r->code < 400 || r == &reply_lmtp) && command->next != SMTP_SAME)
		s->state = command->next;
	free(copy);
	/* A recipient that is refused is no error of the client's. */
	return r == &reply_unknown_550 || r == &s->composed ? r
							    : smtp_refuse(s, r);
}

void
smtp_end_of_data(struct smtp *s, const struct reply *reply)
{
	(void)smtp_refuse(s, reply);
	transaction_reset(&s->transaction);
	s->state = SMTP_READY;
}

const char *
smtp_reply_status(const struct reply *r, char code[16])
{
	size_t len;

	if (r->status != NULL)
		return r->status;
	len = strspn(r->text, "0123456789.");
	/* None, or of another class than the reply's: that class counts. */
	if (len < 5 || len >= 16 || r->text[1] != '.' ||
	    r->text[0] - '0' != r->code / 100)
		(void)snprintf(code, 16, "%d.0.0", r->code / 100);
	else
		(void)snprintf(code, 16, "%.*s", (int)len, r->text);
	return code;
}

const struct reply *
smtp_compose(struct smtp *s, int code, const char *format, ...)
{
	va_list args;

	buf_reset(&s->text);
	va_start(args, format);
	buf_vaddf(&s->text, format, args);
	va_end(args);
	s->composed = (struct reply){ code, NULL, buf_text(&s->text) };
	return &s->composed;
}

void
smtp_format(const struct reply *r, struct buf *out)
{
	const char *line;
	size_t len;

	for (line = r->text;; line += len + 1) {
		len = strcspn(line, "\n");
		buf_addf(out, "%03d%c%s%s%.*s\r\n", r->code,
		    line[len] == '\0' ? ' ' : '-',
		    r->status == NULL ? "" : r->status,
		    r->status == NULL ? "" : " ", (int)len, line);
		if (line[len] == '\0')
			return;
	}
}

/* Passes over content up to the end of its line; returns what that took. */
static size_t
skip_line(struct data *d, const char *in, size_t len)
{
	const char *lf = memchr(in, '\n', len);
	bool ended;

	if (lf == NULL) {
		d->state = in[len - 1] == '\r' ? DATA_CR : DATA_TEXT;
		return len;
	}
	ended = lf == in ? d->state == DATA_CR : lf[-1] == '\r';
	d->bare_lf |= !ended;
	d->state = ended ? DATA_LINE : DATA_TEXT;
	return (size_t)(lf - in) + 1;
}

/*
 * Mail data, RFC 5321 sections 4.1.1.4 and 4.5.2.  Content goes out in runs,
 * from start up to a dot that began a line; that dot is held back, and a CR
 * behind it, until it is clear what they are.
 */
size_t
smtp_data_decode(struct data *d, const char *in, size_t len, smtp_sink_fn *sink,
    void *context)
{
	size_t i, start = 0;

	for (i = 0; i < len && d->state != DATA_END;) {
		if (d->state == DATA_LINE && in[i] == '.') {
			if (i > start)
				sink(context, in + start, i - start);
			start = ++i;
			d->state = DATA_DOT;
		} else if (d->state == DATA_DOT && in[i] == '\r') {
			start = ++i;
			d->state = DATA_DOT_CR;
		} else if (d->state == DATA_DOT_CR && in[i] == '\n') {
			start = ++i;
			d->state = DATA_END;
		} else {
			if (d->state == DATA_DOT_CR)
				sink(context, "\r", 1);
			i += skip_line(d, in + i, len - i);
		}
	}
	if (i > start)
		sink(context, in + start, i - start);
	return i;
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The server's side of SMTP without a socket: dialogues through the command
 * table, and mail data through the decoder in pieces of every size.
 */
#include <stdlib.h>

#include "unit.h"

#include "route.h"
#include "smtp.h"

#include "banned.h"

enum {
	LINES_MAX = 40
};

static char hostname[] = "filter.example";
static const struct smtp_config smtp_config = {
	.hostname = hostname,
	.message_size_limit = 1000,
	.recipient_limit = 2,
};

/* Takes every recipient but those whose local part begins with "no". */
static const struct reply *
settle(void *context, struct recipient *recipient)
{
	(void)context;
	if (strncmp(buf_text(&recipient->address.local), "no", 2) == 0)
		return &reply_unknown_550;
	recipient->account = 0;
	return &reply_rcpt_ok;
}

/*
 * Plays a dialogue: each line of the client, without its CRLF, and what
 * answers it.  The message after 354 is taken as read and stored.
 */
static void
play(const char *name, bool local, const char *const *lines)
{
	BUF(got, 10000);
	BUF(label, 1000);
	const struct reply *r;
	struct smtp s;
	size_t i, len;

	smtp_init(&s, &smtp_config, local, settle, NULL);
	for (i = 0; lines[i] != NULL; i += 2) {
		assert_memory_equal(lines[i], "C: ", 3);
		assert_memory_equal(lines[i + 1], "S: ", 3);
		r = smtp_command(&s, lines[i] + 3, strlen(lines[i] + 3));
		buf_reset(&got);
		buf_reset(&label);
		buf_addf(&label, "%s, %s", name, lines[i]);
		buf_adds(&got, "S: ");
		smtp_format(r, &got);
		assert_int_equal(got.error, 0);
		/* The answer is wanted up to where the table says "..." */
		buf_cut(&got, got.len - 2);
		len = strlen(lines[i + 1]);
		if (len > 3 && memcmp(lines[i + 1] + len - 3, "...", 3) == 0 &&
		    got.len > len - 3)
			unit_octets(buf_text(&label), got.data, len - 3,
			    lines[i + 1], len - 3);
		else
			unit_octets(buf_text(&label), got.data, got.len,
			    lines[i + 1], len);
		if (s.state == SMTP_DATA)
			smtp_end_of_data(&s, &reply_forwarded);
	}
	smtp_free(&s);
}

static void
command(struct smtp *s, const char *line, int want)
{
	unit_number(line, smtp_command(s, line, strlen(line))->code, want);
}

struct dialogue {
	const char *name;
	const char *lines[LINES_MAX];
};

static void
play_all(const struct dialogue *rows, size_t n, bool local)
{
	size_t i;

	for (i = 0; i < n; i++)
		play(rows[i].name, local, rows[i].lines);
}

static void
commands_are_answered_in_their_order(void **state)
{
	static const struct dialogue rows[] = {
		{ "two messages",
		    { "C: HELO c", "S: 250 filter.example",
			"C: MAIL FROM:<s@x>", "S: 250 2.1.0 Ok",
			"C: RCPT TO:<a@x>", "S: 250 2.1.5 Ok", "C: DATA",
			"S: 354 End data with <CR><LF>.<CR><LF>",
			"C: MAIL FROM:<>", "S: 250 2.1.0 Ok",
			"C: RCPT TO:<a@x>", "S: 250 2.1.5 Ok", "C: DATA",
			"S: 354 ...", "C: QUIT", "S: 221 2.0.0 Bye", "C: NOOP",
			"S: 503 5.5.1 ..." } },
		{ "any case",
		    { "C: ehlo c", "S: 250-filter.example...",
			"C: mail from:<s@x> size=1", "S: 250 2.1.0 Ok",
			"C: Rcpt To:<a@x>", "S: 250 2.1.5 Ok", "C: data",
			"S: 354 ...", "C: quit", "S: 221 ..." } },
		{ "before EHLO",
		    { "C: MAIL FROM:<>", "S: 503 5.5.1 ...", "C: RCPT TO:<a@x>",
			"S: 503 5.5.1 ...", "C: DATA", "S: 503 5.5.1 ...",
			"C: XFORWARD NAME=x", "S: 503 5.5.1 ...", "C: NOOP",
			"S: 250 2.0.0 Ok", "C: RSET", "S: 250 2.0.0 Ok",
			"C: VRFY a", "S: 252 2.0.0 ...", "C: MAIL FROM:<>",
			"S: 503 5.5.1 ..." } },
		{ "within a transaction",
		    { "C: HELO c", "S: 250 filter.example", "C: RCPT TO:<a@x>",
			"S: 503 5.5.1 ...", "C: DATA", "S: 503 5.5.1 ...",
			"C: MAIL FROM:<>", "S: 250 2.1.0 Ok", "C: MAIL FROM:<>",
			"S: 503 5.5.1 ...", "C: XFORWARD NAME=x",
			"S: 503 5.5.1 ...", "C: DATA", "S: 503 5.5.1 ...",
			"C: RCPT TO:<a@x>", "S: 250 2.1.5 Ok",
			"C: MAIL FROM:<>", "S: 503 5.5.1 ...", "C: NOOP",
			"S: 250 2.0.0 Ok", "C: DATA", "S: 354 ..." } },
		{ "what ends a transaction",
		    { "C: HELO c", "S: 250 filter.example", "C: MAIL FROM:<>",
			"S: 250 2.1.0 Ok", "C: RCPT TO:<a@x>",
			"S: 250 2.1.5 Ok", "C: RSET", "S: 250 2.0.0 Ok",
			"C: DATA", "S: 503 5.5.1 ...", "C: MAIL FROM:<>",
			"S: 250 2.1.0 Ok", "C: RCPT TO:<a@x>",
			"S: 250 2.1.5 Ok", "C: HELO d", "S: 250 filter.example",
			"C: RCPT TO:<a@x>", "S: 503 5.5.1 ...",
			"C: MAIL FROM:<>", "S: 250 2.1.0 Ok" } },
		{ "a refused HELO ends nothing",
		    { "C: HELO c", "S: 250 filter.example", "C: MAIL FROM:<>",
			"S: 250 2.1.0 Ok", "C: EHLO", "S: 501 5.5.4 ...",
			"C: RSET x", "S: 501 5.5.4 ...", "C: RCPT TO:<a@x>",
			"S: 250 2.1.5 Ok" } },
		{ "not commands",
		    { "C: ", "S: 500 5.5.2 Error: command not recognized",
			"C: NOOPS", "S: 500 5.5.2 ...", "C: STARTTLS",
			"S: 500 5.5.2 ...", "C: NOOP\x01x", "S: 500 5.5.2 ...",
			"C: GET / HTTP/1.1", "S: 500 5.5.2 ..." } },
		{ "LMTP", { "C: EHLO c", "S: 250-filter.example...",
			      "C: LHLO c", "S: 421 4.5.1 Error: SMTP, not LMTP",
			      "C: NOOP", "S: 503 5.5.1 ..." } },
		{ "blanks as Postfix has them",
		    { "C:  NOOP", "S: 250 2.0.0 Ok", "C: \t\v\f\rNOOP\tx\r ",
			"S: 250 2.0.0 Ok", "C: HELO\tc\r",
			"S: 250 filter.example",
			"C: MAIL\tFROM:\t<\ts@x\t>\tSIZE=1\r",
			"S: 250 2.1.0 Ok", "C: RCPT \f TO:a@x\v",
			"S: 250 2.1.5 Ok", "C: DATA\t", "S: 354 ..." } },
		{ "arguments",
		    { "C: EHLO", "S: 501 5.5.4 ...", "C: HELO a b",
			"S: 501 5.5.4 ...", "C: HELO a\tb", "S: 501 5.5.4 ...",
			"C: HELO \xff", "S: 501 5.5.4 ...",
			"C: HELO [192.0.2.1]  ", "S: 250 filter.example",
			"C: NOOP x y", "S: 250 2.0.0 Ok", "C: VRFY",
			"S: 501 5.5.4 ...", "C: MAIL FROM:<>",
			"S: 250 2.1.0 Ok", "C: RCPT TO:<a@x>",
			"S: 250 2.1.5 Ok", "C: DATA x", "S: 501 5.5.4 ...",
			"C: QUIT x", "S: 501 5.5.4 ...", "C: DATA  ",
			"S: 354 ..." } },
	};

	(void)state;
	play_all(rows, COUNT(rows), true);
}

static void
ehlo_announces_xforward_to_local_peers_only(void **state)
{
	static const char *const local[] = { "C: EHLO c",
		"S: 250-filter.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n"
		"250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n"
		"250 XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE",
		"C: XFORWARD NAME=x", "S: 250 2.0.0 Ok", NULL };
	static const char *const remote[] = { "C: EHLO c",
		"S: 250-filter.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n"
		"250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES",
		"C: XFORWARD NAME=x", "S: 550 5.7.0 ...", NULL };

	(void)state;
	play("local", true, local);
	play("remote", false, remote);
}

/* One row for each command that follows EHLO and up to two more. */
static void
play_rows(const char *first, const char *second, const struct dialogue *rows,
    size_t n)
{
	const struct reply *r;
	const char *const *line;
	struct smtp s;
	size_t i;

	for (i = 0; i < n; i++) {
		BUF(got, 1000);

		line = rows[i].lines;
		smtp_init(&s, &smtp_config, true, settle, NULL);
		(void)smtp_command(&s, "EHLO c", 6);
		if (first != NULL)
			command(&s, first, 250);
		if (second != NULL)
			command(&s, second, 250);
		r = smtp_command(&s, line[0], strlen(line[0]));
		buf_addf(&got, "%d %s", r->code,
		    r->status == NULL ? "-" : r->status);
		unit_text(rows[i].name, buf_text(&got), line[1]);
		smtp_free(&s);
	}
}

static void
reverse_paths_and_their_parameters(void **state)
{
	static const struct dialogue rows[] = {
		{ "null", { "MAIL FROM:<>", "250 2.1.0" } },
		{ "blank", { "MAIL FROM: <a@x>", "250 2.1.0" } },
		{ "no brackets", { "MAIL FROM:a@x SIZE=1", "250 2.1.0" } },
		{ "bare local part", { "MAIL FROM:<root>", "250 2.1.0" } },
		{ "source route", { "MAIL FROM:<@a,@b:c@x>", "250 2.1.0" } },
		{ "route of a literal",
		    { "MAIL FROM:<@[IPv6:::1]:c@x>", "250 2.1.0" } },
		{ "route alone", { "MAIL FROM:<@a:>", "250 2.1.0" } },
		{ "route without end", { "MAIL FROM:<@a>", "501 5.5.4" } },
		{ "quoted", { "MAIL FROM:<\"a b>\"@x>", "250 2.1.0" } },
		{ "literal", { "MAIL FROM:<a@[192.0.2.1]>", "250 2.1.0" } },
		{ "no colon", { "MAIL FROM <a@x>", "501 5.5.4" } },
		{ "no path", { "MAIL FROM:", "501 5.5.4" } },
		{ "no FROM", { "MAIL", "501 5.5.4" } },
		{ "TO instead", { "MAIL TO:<a@x>", "501 5.5.4" } },
		{ "open bracket", { "MAIL FROM:<a@x", "501 5.5.4" } },
		{ "lone closing bracket", { "MAIL FROM:a@x>", "501 5.5.4" } },
		{ "text behind", { "MAIL FROM:<a@x>y", "501 5.5.4" } },
		{ "two brackets", { "MAIL FROM:< <a@x> >", "250 2.1.0" } },
		{ "three brackets", { "MAIL FROM:<<a@x>>>", "501 5.5.4" } },
		{ "an open one more", { "MAIL FROM:<<a@x>", "501 5.5.4" } },
		{ "no blank", { "MAIL FROM:<a@x>SIZE=1", "501 5.5.4" } },
		{ "no such address", { "MAIL FROM:<a@@x>", "501 5.5.4" } },
		{ "UTF-8", { "MAIL FROM:<\xc3\xbc@x>", "553 5.6.7" } },
		{ "UTF-8 announced",
		    { "MAIL FROM:<\xc3\xbc@x> SMTPUTF8", "250 2.1.0" } },
		{ "not UTF-8", { "MAIL FROM:<\xff@x> SMTPUTF8", "501 5.5.4" } },
		{ "SMTPUTF8 has no value",
		    { "MAIL FROM:<> SMTPUTF8=1", "501 5.5.4" } },
		{ "SIZE at the limit",
		    { "MAIL FROM:<> SIZE=1000", "250 2.1.0" } },
		{ "SIZE above it", { "MAIL FROM:<> SIZE=1001", "552 5.3.4" } },
		{ "SIZE of twenty digits",
		    { "MAIL FROM:<> SIZE=99999999999999999999", "552 5.3.4" } },
		{ "SIZE of more", { "MAIL FROM:<> SIZE=000000000000000000001",
				      "250 2.1.0" } },
		{ "SIZE of a word", { "MAIL FROM:<> SIZE=1k", "501 5.5.4" } },
		{ "SIZE empty", { "MAIL FROM:<> SIZE=", "501 5.5.4" } },
		{ "SIZE alone", { "MAIL FROM:<> SIZE", "501 5.5.4" } },
		{ "SIZE twice",
		    { "MAIL FROM:<> SIZE=1001 size=1", "250 2.1.0" } },
		{ "SIZE twice, too large",
		    { "MAIL FROM:<> SIZE=1 size=1001", "552 5.3.4" } },
		{ "BODY 7BIT", { "MAIL FROM:<> BODY=7bit", "250 2.1.0" } },
		{ "BODY 8BITMIME",
		    { "MAIL FROM:<>  BODY=8BITMIME", "250 2.1.0" } },
		{ "BODY other",
		    { "MAIL FROM:<> BODY=BINARYMIME", "501 5.5.4" } },
		{ "AUTH", { "MAIL FROM:<> AUTH=<>", "250 2.1.0" } },
		{ "AUTH empty", { "MAIL FROM:<> AUTH=", "250 2.1.0" } },
		{ "RET", { "MAIL FROM:<> RET=HDRS", "250 2.1.0" } },
		{ "RET other", { "MAIL FROM:<> RET=ALL", "501 5.5.4" } },
		{ "ENVID", { "MAIL FROM:<> ENVID=a+2Bb", "250 2.1.0" } },
		{ "ENVID with a control character",
		    { "MAIL FROM:<> ENVID=a\x01", "501 5.5.4" } },
		{ "unknown", { "MAIL FROM:<> HOLDFOR=1", "555 5.5.4" } },
		{ "RCPT's", { "MAIL FROM:<> NOTIFY=NEVER", "555 5.5.4" } },
		{ "equals sign alone", { "MAIL FROM:<> =", "555 5.5.4" } },
	};

	(void)state;
	play_rows(NULL, NULL, rows, COUNT(rows));
}

static void
forward_paths_and_their_parameters(void **state)
{
	static const struct dialogue rows[] = {
		{ "plain", { "RCPT TO:<a@x>", "250 2.1.5" } },
		{ "blank, no brackets", { "RCPT TO: a@x", "250 2.1.5" } },
		{ "postmaster", { "RCPT TO:<Postmaster>", "250 2.1.5" } },
		{ "null", { "RCPT TO:<>", "501 5.5.4" } },
		{ "route alone", { "RCPT TO:<@a:>", "501 5.5.4" } },
		{ "refused", { "RCPT TO:<nobody@x>", "550 5.1.1" } },
		{ "UTF-8", { "RCPT TO:<\xc3\xbc@x>", "553 5.6.7" } },
		{ "NOTIFY", { "RCPT TO:<a@x> NOTIFY=success,FAILURE,DELAY",
				"250 2.1.5" } },
		{ "NOTIFY NEVER",
		    { "RCPT TO:<a@x> NOTIFY=NEVER", "250 2.1.5" } },
		{ "NEVER and more",
		    { "RCPT TO:<a@x> NOTIFY=NEVER,DELAY", "501 5.5.4" } },
		{ "NOTIFY with a comma behind",
		    { "RCPT TO:<a@x> NOTIFY=DELAY,", "501 5.5.4" } },
		{ "ORCPT", { "RCPT TO:<a@x> ORCPT=rfc822;a@x", "250 2.1.5" } },
		{ "ORCPT without type",
		    { "RCPT TO:<a@x> ORCPT=a@x", "501 5.5.4" } },
		{ "MAIL's", { "RCPT TO:<a@x> SIZE=1", "555 5.5.4" } },
	};

	(void)state;
	play_rows("MAIL FROM:<>", NULL, rows, COUNT(rows));
}

/* From a server in front that has judged a sender and taken the mail. */
static void
what_xforward_comes_before_is_never_refused_for_good(void **state)
{
	static const struct dialogue mail[] = {
		{ "two at signs", { "MAIL FROM:<a@b@c>", "250 2.1.0" } },
		{ "open literal", { "MAIL FROM:<a@[192.0.2.1>", "250 2.1.0" } },
		{ "literal first", { "MAIL FROM:<[a b]@c>", "250 2.1.0" } },
		{ "empty quotes", { "MAIL FROM:<\"\">", "250 2.1.0" } },
		{ "backslash", { "MAIL FROM:<a@c\\d>", "250 2.1.0" } },
		{ "UTF-8", { "MAIL FROM:<\xc3\xbc@x>", "250 2.1.0" } },
		{ "not UTF-8", { "MAIL FROM:<\xff@x>", "451 4.3.5" } },
		{ "control character", { "MAIL FROM:<a\x01@x>", "451 4.3.5" } },
		{ "text behind", { "MAIL FROM:<a@x>y", "451 4.3.5" } },
		{ "unknown parameter", { "MAIL FROM:<> A=B", "451 4.3.5" } },
		{ "bad value", { "MAIL FROM:<> SIZE=x", "451 4.3.5" } },
		{ "too large", { "MAIL FROM:<> SIZE=1001", "552 5.3.4" } },
		{ "sequence", { "RCPT TO:<a@x>", "503 5.5.1" } },
		{ "XFORWARD itself", { "XFORWARD A=B", "501 5.5.4" } },
		{ "no command", { "A", "500 5.5.2" } },
	};
	static const struct dialogue rcpt[] = {
		{ "two at signs", { "RCPT TO:<a@b@c>", "451 4.3.5" } },
		{ "null", { "RCPT TO:<>", "451 4.3.5" } },
		{ "unknown parameter", { "RCPT TO:<a@x> A=B", "451 4.3.5" } },
		{ "UTF-8", { "RCPT TO:<\xc3\xbc@x>", "250 2.1.5" } },
		{ "nobody's", { "RCPT TO:<nobody@x>", "550 5.1.1" } },
	};

	(void)state;
	play_rows("XFORWARD ADDR=192.0.2.1", NULL, mail, COUNT(mail));
	play_rows("XFORWARD ADDR=192.0.2.1", "MAIL FROM:<>", rcpt, COUNT(rcpt));
}

static void
xforward_takes_xtext_without_control_characters(void **state)
{
	static const struct dialogue rows[] = {
		{ "plain", { "XFORWARD NAME=x ADDR=192.0.2.1", "250 2.0.0" } },
		{ "xtext", { "XFORWARD HELO=a+20b+2B", "250 2.0.0" } },
		{ "UTF-8", { "XFORWARD NAME=+C3+BC", "250 2.0.0" } },
		{ "not UTF-8", { "XFORWARD NAME=+FF", "250 2.0.0" } },
		{ "newline", { "XFORWARD NAME=a+0Ab", "501 5.5.4" } },
		{ "NUL", { "XFORWARD NAME=+00", "501 5.5.4" } },
		{ "DEL", { "XFORWARD NAME=+7F", "501 5.5.4" } },
		{ "control character", { "XFORWARD NAME=\x01", "501 5.5.4" } },
		{ "cut hex", { "XFORWARD NAME=+4", "501 5.5.4" } },
		{ "no hex", { "XFORWARD NAME=+", "501 5.5.4" } },
		{ "not hex", { "XFORWARD NAME=+4G", "501 5.5.4" } },
		{ "unknown attribute", { "XFORWARD PASS=x", "501 5.5.4" } },
		{ "no value", { "XFORWARD NAME", "501 5.5.4" } },
		{ "nothing", { "XFORWARD", "501 5.5.4" } },
	};

	(void)state;
	play_rows(NULL, NULL, rows, COUNT(rows));
}

static void
a_transaction_holds_what_was_said(void **state)
{
	struct smtp s;
	const struct transaction *t;

	(void)state;
	t = &s.transaction;
	smtp_init(&s, &smtp_config, true, settle, NULL);
	command(&s, "EHLO c", 250);
	command(&s, "XFORWARD NAME=x", 250);
	command(&s, "XFORWARD NAME=[UNAVAILABLE] ADDR=192.0.2.1", 250);
	command(&s, "XFORWARD HELO=a+20b IDENT=[tempunavail] ADDR=IPv6:::1",
	    250);
	command(&s, "MAIL FROM:<@r:S@x> SIZE=12 BODY=8BITMIME", 250);
	command(&s, "RCPT TO:<no@x>", 550);
	command(&s, "RCPT TO:<\"A\"@X.> NOTIFY=NEVER", 250);
	assert_string_equal(t->reverse_path, "S@x");
	assert_string_equal(t->parameters[PARAMETER_SIZE], "12");
	assert_string_equal(t->parameters[PARAMETER_BODY], "8BITMIME");
	assert_null(t->parameters[PARAMETER_SMTPUTF8]);
	assert_int_equal(t->nrecipients, 1);
	assert_int_equal(t->nrefused, 1);
	assert_string_equal(t->recipients[0]->path, "\"A\"@X.");
	assert_string_equal(buf_text(&t->recipients[0]->address.domain), "x");
	assert_string_equal(t->recipients[0]->parameters[PARAMETER_NOTIFY],
	    "NEVER");
	assert_true(t->xforward_used);
	assert_null(t->xforward[XFORWARD_NAME]);
	assert_string_equal(t->xforward[XFORWARD_ADDR], "IPv6:::1");
	assert_string_equal(t->xforward[XFORWARD_HELO], "a b");
	assert_null(t->xforward[XFORWARD_IDENT]);
	command(&s, "RSET", 250);
	assert_null(t->reverse_path);
	assert_null(t->parameters[PARAMETER_SIZE]);
	assert_false(t->xforward_used);
	assert_int_equal(t->nrecipients, 0);
	assert_int_equal(t->nrefused, 0);
	assert_null(t->xforward[XFORWARD_HELO]);
	smtp_free(&s);
}

/* So that an object's metadata has room for it, whatever it is made of. */
static void
a_reverse_path_has_1024_octets_at_most(void **state)
{
	BUF(line, 2000);
	struct smtp s;

	(void)state;
	smtp_init(&s, &smtp_config, true, settle, NULL);
	command(&s, "EHLO c", 250);
	buf_addf(&line, "MAIL FROM:<%01023d@x>", 0);
	command(&s, buf_text(&line), 501);
	buf_reset(&line);
	buf_addf(&line, "MAIL FROM:<%01022d@x>", 0);
	command(&s, buf_text(&line), 250);
	smtp_free(&s);
}

/* RFC 5321 section 3.3: each MAIL that is refused leaves nothing behind. */
static void
a_refused_mail_leaves_nothing(void **state)
{
	struct smtp s;

	(void)state;
	smtp_init(&s, &smtp_config, true, settle, NULL);
	command(&s, "EHLO c", 250);
	command(&s, "MAIL FROM:<a@x> BODY=8BITMIME SIZE=5000", 552);
	command(&s, "MAIL FROM:<b@x> SIZE=1", 250);
	assert_string_equal(s.transaction.reverse_path, "b@x");
	assert_null(s.transaction.parameters[PARAMETER_BODY]);
	smtp_free(&s);
}

static void
the_recipient_limit_counts_accepted_ones(void **state)
{
	struct smtp s;

	(void)state;
	smtp_init(&s, &smtp_config, true, settle, NULL);
	command(&s, "EHLO c", 250);
	command(&s, "MAIL FROM:<>", 250);
	command(&s, "RCPT TO:<no@x>", 550);
	command(&s, "RCPT TO:<a@x>", 250);
	command(&s, "RCPT TO:<b@x>", 250);
	assert_string_equal(smtp_command(&s, "RCPT TO:<c@x>", 13)->status,
	    "4.5.3");
	command(&s, "DATA", 354);
	assert_int_equal(s.transaction.nrecipients, 2);
	smtp_free(&s);
}

static void
data_without_an_accepted_recipient_is_refused(void **state)
{
	struct smtp s;

	(void)state;
	smtp_init(&s, &smtp_config, true, settle, NULL);
	command(&s, "EHLO c", 250);
	command(&s, "MAIL FROM:<>", 250);
	command(&s, "DATA", 503);
	command(&s, "RCPT TO:<no@x>", 550);
	command(&s, "DATA", 554);
	assert_int_equal(s.state, SMTP_MAIL);
	command(&s, "RCPT TO:<a@x>", 250);
	command(&s, "DATA", 354);
	smtp_free(&s);
}

static void
twenty_errors_are_too_many_refused_recipients_are_none(void **state)
{
	struct smtp s;
	int i;

	(void)state;
	smtp_init(&s, &smtp_config, true, settle, NULL);
	command(&s, "EHLO c", 250);
	command(&s, "MAIL FROM:<>", 250);
	for (i = 0; i < 30; i++)
		command(&s, "RCPT TO:<no@x>", 550);
	assert_int_equal(s.errors, 0);
	command(&s, "RCPT TO:<", 501);
	command(&s, "DATA", 554);
	assert_ptr_equal(smtp_refuse(&s, &reply_line_too_long),
	    &reply_line_too_long);
	smtp_end_of_data(&s, &reply_too_big);
	smtp_end_of_data(&s, &reply_write_error);
	assert_int_equal(s.errors, 4);
	for (i = 0; i < 15; i++)
		command(&s, "FOO", 500);
	assert_true(s.errors < SMTP_ERRORS_MAX);
	command(&s, "FOO", 500);
	assert_true(s.errors >= SMTP_ERRORS_MAX);
	smtp_free(&s);
}

static void
a_nul_is_no_command(void **state)
{
	struct smtp s;

	(void)state;
	smtp_init(&s, &smtp_config, true, settle, NULL);
	assert_int_equal(smtp_command(&s, "NOOP\0", 5)->code, 500);
	assert_int_equal(smtp_command(&s, "\0NOOP", 5)->code, 500);
	assert_int_equal(smtp_command(&s, "NOOP", 4)->code, 250);
	smtp_free(&s);
}

static void
replies_go_over_the_wire_line_by_line(void **state)
{
	static const struct {
		const char *name;
		struct reply in;
		const char *want;
	} rows[] = {
		{ "one", { 250, "2.0.0", "Ok" }, "250 2.0.0 Ok\r\n" },
		{ "no status", { 220, NULL, "x" }, "220 x\r\n" },
		{ "several", { 250, NULL, "a\nb\nc" },
		    "250-a\r\n250-b\r\n250 c\r\n" },
		{ "several with status", { 550, "5.1.1", "a\nb" },
		    "550-5.1.1 a\r\n550 5.1.1 b\r\n" },
		{ "empty", { 250, NULL, "" }, "250 \r\n" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		BUF(got, 100);

		smtp_format(&rows[i].in, &got);
		assert_int_equal(got.error, 0);
		unit_text(rows[i].name, buf_text(&got), rows[i].want);
	}
}

/* Other programs and people rely on these words and codes. */
static void
replies_are_those_of_the_manual(void **state)
{
	static const struct {
		const struct reply *reply;
		const char *want;
	} rows[] = {
		{ &reply_write_error,
		    "451 4.3.0 Error: queue file write error" },
		{ &reply_config_error,
		    "451 4.3.5 Error: mail system configuration error" },
		{ &reply_no_storage, "452 4.3.1 Insufficient system storage" },
		{ &reply_too_big,
		    "552 5.3.4 Message size exceeds fixed limit" },
		{ &reply_forwarded, "250 2.0.0 Ok: forwarded" },
		{ &reply_bare_lf_data, "550 5.5.2" },
		{ &reply_bare_lf, "500 5.5.2" },
		{ &reply_line_too_long, "500 5.5.2" },
		{ &reply_unknown_450, "450 4.1.1" },
		{ &reply_unknown_550, "550 5.1.1" },
		{ &reply_timeout, "421 4.4.2" },
		{ &reply_stopping, "421 4.3.2" },
		{ &reply_too_many_errors, "421 4.7.0" },
		{ &reply_remote, "421 4.7.0" },
		{ &reply_broken_config, "421 4.3.5" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		BUF(got, 200);

		smtp_format(rows[i].reply, &got);
		assert_int_equal(got.error, 0);
		buf_cut(&got, got.len - 2);
		/* Where the wording is free, only the codes count. */
		if (strlen(rows[i].want) <= 9)
			buf_cut(&got, strlen(rows[i].want));
		unit_text(rows[i].want, buf_text(&got), rows[i].want);
	}
}

/* RFC 3463: also where another server wrote the reply. */
static void
status_codes_are_found_in_the_text(void **state)
{
	static const struct {
		const char *name;
		struct reply in;
		const char *want;
	} rows[] = {
		{ "ours", { 250, "2.0.0", "Ok" }, "2.0.0" },
		{ "theirs", { 550, NULL, "5.7.1 no" }, "5.7.1" },
		{ "of three digits", { 550, NULL, "5.123.999 no" },
		    "5.123.999" },
		{ "alone", { 550, NULL, "5.7.1" }, "5.7.1" },
		{ "of another class", { 450, NULL, "2.3.4 no" }, "4.0.0" },
		{ "none", { 550, NULL, "no such user" }, "5.0.0" },
		{ "a number", { 550, NULL, "12345 no" }, "5.0.0" },
		{ "an address", { 550, NULL, "192.0.2.1 no" }, "5.0.0" },
		{ "too short", { 550, NULL, "5.7 no" }, "5.0.0" },
		{ "too long", { 550, NULL, "5.1111111111111.1 no" }, "5.0.0" },
		{ "nothing", { 550, NULL, "" }, "5.0.0" },
	};
	char code[16];
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		unit_text(rows[i].name, smtp_reply_status(&rows[i].in, code),
		    rows[i].want);
}

static void
the_greeting_names_the_host(void **state)
{
	BUF(got, 100);
	struct smtp s;

	(void)state;
	smtp_init(&s, &smtp_config, true, settle, NULL);
	smtp_format(smtp_greeting(&s), &got);
	assert_string_equal(buf_text(&got),
	    "220 filter.example ESMTP swiftdrop\r\n");
	smtp_free(&s);
}

static void
collect(void *context, const char *text, size_t len)
{
	assert_true(len > 0);
	buf_add(context, text, len);
}

/* Decodes in two pieces, or octet by octet when at is above len. */
static void
decode(struct data *d, struct buf *got, const char *in, size_t len, size_t at,
    size_t *taken)
{
	size_t n;

	*d = (struct data){ .state = DATA_LINE };
	*taken = 0;
	while (*taken < len && d->state != DATA_END) {
		n = at > len ? 1 : *taken < at ? at - *taken : len - *taken;
		*taken += smtp_data_decode(d, in + *taken, n, collect, got);
	}
}

static void
mail_data_is_the_same_however_it_comes(void **state)
{
	static const struct {
		const char *name, *in, *want;
		const char *rest; /* behind the end; NULL when it never came */
		bool bare_lf;
	} rows[] = {
		{ "a line", "a\r\n.\r\n", "a\r\n", "", false },
		{ "no line", ".\r\n", "", "", false },
		{ "empty line", "\r\n.\r\n", "\r\n", "", false },
		{ "next command", ".\r\nQUIT\r\n", "", "QUIT\r\n", false },
		{ "two ends", ".\r\n.\r\n", "", ".\r\n", false },
		{ "stuffed dots", "..\r\n...\r\n..a\r\n.\r\n",
		    ".\r\n..\r\n.a\r\n", "", false },
		{ "unstuffed dot", ".a\r\n.\r\n", "a\r\n", "", false },
		{ "dots inside", "a.\r\na..\r\n.\r\n", "a.\r\na..\r\n", "",
		    false },
		{ "bare LF dot", "a\n.\r\n", "a\n.\r\n", NULL, true },
		{ "bare LF dot LF", "a\n.\nb\r\n.\r\n", "a\n.\nb\r\n", "",
		    true },
		{ "dot bare LF", "a\r\n.\nb\r\n.\r\n", "a\r\n\nb\r\n", "",
		    true },
		{ "bare LF first", "\n.\r\n", "\n.\r\n", NULL, true },
		{ "bare CR", "a\rb\r\n.\r\n", "a\rb\r\n", "", false },
		{ "bare CR dot", "a\r.\r\n.\r\n", "a\r.\r\n", "", false },
		{ "CR CR LF dot", "a\r\r\n.\r\n", "a\r\r\n", "", false },
		{ "dot CR text", ".\rb\r\n.\r\n", "\rb\r\n", "", false },
		{ "dot CR dot", ".\r.\r\n.\r\n", "\r.\r\n", "", false },
		{ "dot CR CR LF", ".\r\r\n.\r\n", "\r\r\n", "", false },
		{ "dot CR CR dot", ".\r\r.\r\n.\r\n", "\r\r.\r\n", "", false },
		{ "LF CR dot", "a\n\r.\r\n.\r\n", "a\n\r.\r\n", "", true },
		{ "high octets", "\xff\x80\r\n.\r\n", "\xff\x80\r\n", "",
		    false },
		{ "cut in text", "abc", "abc", NULL, false },
		{ "cut behind a dot", "a\r\n.", "a\r\n", NULL, false },
		{ "cut behind dot CR", "a\r\n.\r", "a\r\n", NULL, false },
	};
	size_t at, i, len, taken;
	const char *rest;
	struct data d;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		len = strlen(rows[i].in);
		for (at = 0; at <= len + 1; at++) {
			BUF(got, 1000);

			decode(&d, &got, rows[i].in, len, at, &taken);
			unit_octets(rows[i].name, buf_text(&got), got.len,
			    rows[i].want, strlen(rows[i].want));
			rest =
			    d.state == DATA_END ? rows[i].in + taken : "no end";
			unit_text(rows[i].name, rest,
			    rows[i].rest == NULL ? "no end" : rows[i].rest);
			unit_number(rows[i].name, d.bare_lf, rows[i].bare_lf);
		}
	}
}

static void
a_nul_is_content(void **state)
{
	struct data d = { .state = DATA_LINE };
	BUF(got, 100);

	(void)state;
	assert_int_equal(smtp_data_decode(&d, "a\0b\r\n.\r\nX", 9, collect,
			     &got),
	    8);
	assert_int_equal(d.state, DATA_END);
	unit_octets("content", buf_text(&got), got.len, "a\0b\r\n", 5);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commands_are_answered_in_their_order),
		cmocka_unit_test(ehlo_announces_xforward_to_local_peers_only),
		cmocka_unit_test(reverse_paths_and_their_parameters),
		cmocka_unit_test(forward_paths_and_their_parameters),
		cmocka_unit_test(
		    what_xforward_comes_before_is_never_refused_for_good),
		cmocka_unit_test(
		    xforward_takes_xtext_without_control_characters),
		cmocka_unit_test(a_transaction_holds_what_was_said),
		cmocka_unit_test(a_reverse_path_has_1024_octets_at_most),
		cmocka_unit_test(a_refused_mail_leaves_nothing),
		cmocka_unit_test(the_recipient_limit_counts_accepted_ones),
		cmocka_unit_test(data_without_an_accepted_recipient_is_refused),
		cmocka_unit_test(
		    twenty_errors_are_too_many_refused_recipients_are_none),
		cmocka_unit_test(a_nul_is_no_command),
		cmocka_unit_test(replies_go_over_the_wire_line_by_line),
		cmocka_unit_test(replies_are_those_of_the_manual),
		cmocka_unit_test(status_codes_are_found_in_the_text),
		cmocka_unit_test(the_greeting_names_the_host),
		cmocka_unit_test(mail_data_is_the_same_however_it_comes),
		cmocka_unit_test(a_nul_is_content),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

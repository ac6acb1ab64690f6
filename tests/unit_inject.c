/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Re-injection against a scripted server: what it hears, and what becomes of
 * its answers, the unusual ones above all.
 */
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "unit.h"

#include "clock.h"
#include "inject.h"
#include "message.h"
#include "smtp.h"

#include "banned.h"

#define OFFER                                                                  \
	"250-h\r\n250-8BITMIME\r\n250-XFORWARD NAME ADDR\r\n250 SIZE 9\r\n"
#define HELLO "220 h\r\n", OFFER
#define OK    "250 2.0.0 Ok\r\n"
#define GO_ON "354 go on\r\n"

enum {
	ANSWERS_MAX = 10
};

static char hostname[] = "filter.example";
static char folder[] = "/tmp/unit_inject.XXXXXX";
static char reinject[64];
static struct smtp_config smtp_config = {
	.hostname = hostname,
	.message_size_limit = 1000,
	.recipient_limit = 10,
	.reinject = reinject,
};

static int
setup(void **state)
{
	(void)state;
	if (mkdtemp(folder) == NULL)
		return -1;
	(void)snprintf(reinject, sizeof(reinject), "unix:%s/s", folder);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	return rmdir(folder);
}

static bool
ends_in(const struct buf *heard, const char *end)
{
	size_t len;

	len = strlen(end);
	return heard->len >= len &&
	       memcmp(heard->data + heard->len - len, end, len) == 0;
}

/*
 * The server's process: an answer to each command, "" for silence, then hangs
 * up.
 */
static void
serve(int listener, int report, const char *const *answers)
{
	struct buf heard = { .max = 100000 };
	const char *end;
	size_t before;
	char octet;
	int fd;

	fd = accept(listener, NULL, NULL);
	end = NULL;
	before = 0;
	for (; *answers != NULL; answers++) {
		while (end != NULL &&
		       (heard.len == before || !ends_in(&heard, end))) {
			if (read(fd, &octet, 1) != 1)
				goto out;
			buf_addc(&heard, octet);
		}
		before = heard.len;
		if (write(fd, *answers, strlen(*answers)) == -1)
			break;
		end = strncmp(*answers, "354", 3) == 0 ? "\r\n.\r\n" : "\r\n";
	}
	(void)shutdown(fd, SHUT_WR);
	while (read(fd, &octet, 1) == 1)
		buf_addc(&heard, octet);
out:
	(void)!write(report, buf_text(&heard), heard.len);
	_exit(0);
}

static pid_t
start(const char *const *answers, int *report)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fds[2], listener;
	pid_t pid;

	memcpy(un.sun_path, reinject + 5, strlen(reinject + 5) + 1);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(pipe(fds), 0);
	pid = fork();
	assert_int_not_equal(pid, -1);
	if (pid == 0)
		serve(listener, fds[1], answers);
	(void)close(listener);
	(void)close(fds[1]);
	*report = fds[0];
	return pid;
}

static void
finish(pid_t pid, int report, struct buf *heard)
{
	char octet;

	while (read(report, &octet, 1) == 1)
		buf_addc(heard, octet);
	(void)close(report);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(unlink(reinject + 5), 0);
}

/* Leaves every recipient to the server. */
static const struct reply *
settle(void *context, struct recipient *recipient)
{
	(void)context;
	(void)recipient;
	return &reply_rcpt_ok;
}

static const char *
outcome_name(enum inject_outcome outcome)
{
	static const char *const names[] = { "ok", "refused", "failed",
		"in doubt" };

	return names[outcome];
}

/* Goes as far as the answers let it; got says where it stopped and why. */
static void
run(struct inject *i, const struct smtp *s, const char *content,
    struct buf *got)
{
	struct message m;
	enum inject_outcome outcome;
	const char *step;

	message_open(&m, "/tmp", 100000);
	message_add(&m, content, strlen(content));
	assert_int_equal(message_finish(&m), 0);
	step = "recipient";
	outcome =
	    inject_recipient(i, &s->transaction, s->transaction.recipients[0]);
	if (outcome == INJECT_OK) {
		step = "content";
		outcome = inject_content(i, &m, clock_ms() + 5000);
	}
	if (outcome == INJECT_OK) {
		step = "commit";
		outcome = inject_commit(i, clock_ms() + 5000);
	}
	buf_addf(got, "%s %s", step, outcome_name(outcome));
	if (outcome == INJECT_REFUSED)
		buf_addf(got, " %d %s", i->code, buf_text(&i->reply));
	inject_end(i);
	message_close(&m);
}

struct row {
	const char *name;
	const char *answers[ANSWERS_MAX];
	const char *want;  /* where it stopped */
	const char *heard; /* what the server heard; NULL: not compared */
};

static void
play(const struct row *row, const char *const *commands, const char *content)
{
	BUF(got, 1000);
	BUF(heard, 100000);
	struct inject i;
	struct smtp s;
	size_t k;
	pid_t pid;
	int report;

	smtp_init(&s, &smtp_config, true, settle, NULL);
	inject_init(&i, &smtp_config, INT64_MAX);
	for (k = 0; commands[k] != NULL; k++)
		assert_int_equal(
		    smtp_command(&s, commands[k], strlen(commands[k]))->code,
		    250);
	pid = start(row->answers, &report);
	run(&i, &s, content, &got);
	finish(pid, report, &heard);
	unit_text(row->name, buf_text(&got), row->want);
	if (row->heard != NULL)
		unit_text(row->name, buf_text(&heard), row->heard);
	inject_free(&i);
	smtp_free(&s);
}

static const char *const plain[] = { "EHLO c", "MAIL FROM:<s@x>",
	"RCPT TO:<r@y>", NULL };

#define ENVELOPE "EHLO filter.example\r\nMAIL FROM:<s@x>\r\nRCPT TO:<r@y>\r\n"

static void
answers_decide_what_becomes_of_a_mail(void **state)
{
	static const struct row rows[] = {
		{ "taken", { HELLO, OK, OK, GO_ON, OK, NULL }, "commit ok",
		    ENVELOPE "DATA\r\na\r\n.\r\nQUIT\r\n" },
		{ "greeting refused", { "554 no\r\n", NULL },
		    "recipient failed", NULL },
		{ "EHLO refused", { "220 h\r\n", "500 no\r\n", NULL },
		    "recipient failed", NULL },
		{ "MAIL refused", { HELLO, "550 5.7.1 no\r\n", NULL },
		    "recipient refused 550 5.7.1 no", NULL },
		{ "RCPT refused", { HELLO, OK, "450-a\r\n450 b\r\n", NULL },
		    "recipient refused 450 b", ENVELOPE "QUIT\r\n" },
		{ "421 counts as 451", { HELLO, OK, "421 bye\r\n", NULL },
		    "recipient refused 451 bye", NULL },
		{ "DATA refused", { HELLO, OK, OK, "554 no\r\n", NULL },
		    "content refused 554 no", NULL },
		{ "250 to DATA", { HELLO, OK, OK, OK, NULL }, "content failed",
		    NULL },
		{ "dot refused",
		    { HELLO, OK, OK, GO_ON, "552 5.3.4 big\r\n", NULL },
		    "commit refused 552 5.3.4 big", NULL },
		{ "answer to the dot lost", { HELLO, OK, OK, GO_ON, "", NULL },
		    "commit in doubt", ENVELOPE "DATA\r\na\r\n.\r\n" },
		{ "answer before the dot", { HELLO, OK, OK, GO_ON OK, NULL },
		    "commit failed", NULL },
		{ "answer before DATA", { HELLO, OK, OK OK, GO_ON, NULL },
		    "content failed", NULL },
		{ "answer before RCPT", { HELLO, OK OK, NULL },
		    "recipient failed", NULL },
		{ "354 to the dot", { HELLO, OK, OK, GO_ON, GO_ON, NULL },
		    "commit in doubt", NULL },
		{ "not SMTP to the dot",
		    { HELLO, OK, OK, GO_ON, "ok\r\n", NULL }, "commit in doubt",
		    NULL },
		{ "bare LF to the dot",
		    { HELLO, OK, OK, GO_ON, "250 ok\n250 ok\r\n", NULL },
		    "commit in doubt", NULL },
		{ "codes that differ", { HELLO, "250-a\r\n550 b\r\n", NULL },
		    "recipient failed", NULL },
		{ "code of 6", { "620 h\r\n", NULL }, "recipient failed",
		    NULL },
		{ "cut in a line", { HELLO, "250", NULL }, "recipient failed",
		    NULL },
		{ "a reply that cannot be printed",
		    { HELLO, "550 \x1b[1m\xff\r\n", NULL },
		    "recipient refused 550 ?[1m?", NULL },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++)
		play(&rows[i], plain, "a\r\n");
}

static void
only_what_is_announced_is_said(void **state)
{
	static const struct row with = { "announced",
		{ HELLO, OK, OK, OK, GO_ON, OK, NULL }, "commit ok",
		"EHLO filter.example\r\nXFORWARD NAME=a+20b "
		"ADDR=[UNAVAILABLE]\r\n"
		"MAIL FROM:<s@x> SIZE=7 BODY=8BITMIME\r\nRCPT TO:<r@y>\r\n"
		"DATA\r\na\r\n.\r\nQUIT\r\n" };
	static const struct row without = { "not announced",
		{ "220 h\r\n", "250 h\r\n", OK, OK, GO_ON, OK, NULL },
		"commit ok", ENVELOPE "DATA\r\na\r\n.\r\nQUIT\r\n" };
	static const char *const commands[] = { "EHLO c",
		"XFORWARD NAME=a+20b HELO=h",
		"MAIL FROM:<s@x> BODY=8BITMIME SIZE=7 RET=FULL",
		"RCPT TO:<r@y> NOTIFY=NEVER", NULL };

	(void)state;
	play(&with, commands, "a\r\n");
	play(&without, commands, "a\r\n");
}

static void
smtputf8_must_be_offered(void **state)
{
	/* It is noticed before MAIL, and the server is left politely. */
	static const struct row without = { "not offered", { HELLO, NULL },
		"recipient failed", "EHLO filter.example\r\nQUIT\r\n" };
	static const struct row with = { "offered",
		{ "220 h\r\n", "250-h\r\n250 SMTPUTF8\r\n", OK, OK, GO_ON, OK,
		    NULL },
		"commit ok", NULL };
	static const char *const commands[] = { "EHLO c",
		"MAIL FROM:<s@x> SMTPUTF8", "RCPT TO:<r@y>", NULL };

	(void)state;
	play(&with, commands, "a\r\n");
	play(&without, commands, "a\r\n");
}

static void
dots_are_stuffed_and_bare_crs_made_blanks(void **state)
{
	static const struct {
		const char *content, *want;
	} rows[] = {
		{ ".\r\n..\r\na.\r\n", "..\r\n...\r\na.\r\n" },
		{ "a\rb\r\r\n.c\r\n", "a b \r\n..c\r\n" },
		{ "a\r.\r\n", "a .\r\n" },
		{ "", "" },
	};
	struct row row = { "content", { HELLO, OK, OK, GO_ON, OK, NULL },
		"commit ok", NULL };
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		BUF(heard, 1000);

		buf_addf(&heard, ENVELOPE "DATA\r\n%s.\r\nQUIT\r\n",
		    rows[i].want);
		row.heard = buf_text(&heard);
		play(&row, plain, rows[i].content);
	}
}

static void
nobody_listens(void **state)
{
	BUF(got, 100);
	struct inject i;
	struct smtp s;
	size_t k;

	(void)state;
	smtp_init(&s, &smtp_config, true, settle, NULL);
	inject_init(&i, &smtp_config, INT64_MAX);
	for (k = 0; plain[k] != NULL; k++)
		(void)smtp_command(&s, plain[k], strlen(plain[k]));
	run(&i, &s, "a\r\n", &got);
	assert_string_equal(buf_text(&got), "recipient failed");
	inject_free(&i);
	smtp_free(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_decide_what_becomes_of_a_mail),
		cmocka_unit_test(only_what_is_announced_is_said),
		cmocka_unit_test(smtputf8_must_be_offered),
		cmocka_unit_test(dots_are_stuffed_and_bare_crs_made_blanks),
		cmocka_unit_test(nobody_listens),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What rspamd's answers mean; real ones are in tests/system/test_rspamd.py.
 */
#include <stdlib.h>

#include "unit.h"

#include "clock.h"
#include "log.h"
#include "scan.h"

#include "banned.h"

#define HEAD          "{\"score\":4.2,\"required_score\":15.0,\"action\":\"no action\""
#define WITH(symbols) HEAD ",\"symbols\":{" symbols "}}"

static struct buf facts[FACTS];

static int
setup(void **state)
{
	size_t i;

	(void)state;
	log_open("none", false);
	for (i = 0; i < FACTS; i++)
		facts[i].max = FACT_MAX;
	return 0;
}

static int
teardown(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < FACTS; i++)
		buf_free(&facts[i]);
	return 0;
}

/* Reads an answer; the facts and the text, a blank between two. */
static const char *
read_answer(const char *answer, size_t len, struct buf *out)
{
	BUF(octets, 64 * 1024);
	BUF(text, 2 * SCAN_TEXT_MAX);
	bool usable;
	size_t i;

	for (i = 0; i < FACTS; i++)
		buf_reset(&facts[i]);
	buf_add(&octets, answer, len);
	usable = scan_read(&octets, facts, &text);
	buf_adds(out, usable ? "yes" : "no");
	for (i = 0; i < FACTS; i++)
		if (facts[i].len > 0)
			buf_addf(out, " %s", buf_text(&facts[i]));
	if (text.len > 0)
		buf_addf(out, " \"%s\"", buf_text(&text));
	return buf_text(out);
}

static void
answers_are_read(void **state)
{
	static const struct {
		const char *name, *in, *want;
	} rows[] = {
		{ "plain", HEAD "}", "yes no-action 4.20/15.00" },
		{ "whole numbers",
		    "{\"score\":-3,\"required_score\":7,\"action\":\"reject\"}",
		    "yes reject -3.00/7.00" },
		{ "blanks", "{\"score\":0,\"action\":\"rewrite subject\"}",
		    "yes rewrite-subject 0.00/0.00" },
		{ "one of a kind", WITH("\"R_SPF_NEUTRAL\":{}"),
		    "yes no-action 4.20/15.00 neutral" },
		{ "all kinds",
		    WITH("\"ARC_INVALID\":{},\"R_DKIM_NA\":{},"
			 "\"DMARC_POLICY_QUARANTINE\":{},\"R_SPF_ALLOW\":{}"),
		    "yes no-action 4.20/15.00 pass none fail permerror" },
		{ "a signature that holds counts",
		    WITH("\"R_DKIM_REJECT\":{},\"R_DKIM_ALLOW\":{}"),
		    "yes no-action 4.20/15.00 pass" },
		{ "other symbols",
		    WITH("\"R_SPF\":{},\"VIRUS\":{},\"GTUBE\":{}"),
		    "yes no-action 4.20/15.00" },
		{ "virus",
		    WITH("\"CLAM_VIRUS\":{\"options\":[\"Eicar-Test\",\"B\"]}"),
		    "yes no-action 4.20/15.00 Eicar-Test" },
		{ "virus, rule without a symbol",
		    WITH("\"CLAMAV\":{\"options\":[\"Win.X-1\"]}"),
		    "yes no-action 4.20/15.00 Win.X-1" },
		{ "virus with its file",
		    WITH("\"S_VIRUS\":{\"options\":[\"Win.X-1|a.exe\"]}"),
		    "yes no-action 4.20/15.00 Win.X-1" },
		{ "scanner that failed",
		    WITH("\"CLAM_VIRUS_FAIL\":{\"options\":[\"timeout\"]}"),
		    "yes no-action 4.20/15.00" },
		{ "virus without a name", WITH("\"CLAM_VIRUS\":{}"),
		    "yes no-action 4.20/15.00" },
		{ "options of another kind",
		    WITH("\"CLAM_VIRUS\":{\"options\":[7]},"
			 "\"B_VIRUS\":{\"options\":{}},\"C_VIRUS\":3"),
		    "yes no-action 4.20/15.00" },
		{ "symbols of another kind", HEAD ",\"symbols\":[1]}",
		    "yes no-action 4.20/15.00" },
		{ "message",
		    HEAD ",\"messages\":{\"smtp_message\":\"Go away\"}}",
		    "yes no-action 4.20/15.00 \"Go away\"" },
		{ "message with controls",
		    HEAD ",\"messages\":{\"smtp_message\":\"a\\r\\n250 b\"}}",
		    "yes no-action 4.20/15.00 \"a??250 b\"" },
		{ "messages of another kind",
		    HEAD ",\"messages\":{\"smtp_message\":[]}}",
		    "yes no-action 4.20/15.00" },
		{ "no UTF-8",
		    WITH("\"X\":{\"options\":[\"\xff\x80\"]},"
			 "\"R_SPF_FAIL\":{}"),
		    "yes no-action 4.20/15.00 fail" },
		{ "NUL in a text", WITH("\"X\":{\"options\":[\"a\\u0000\"]}"),
		    "yes no-action 4.20/15.00" },
		{ "action of its administrator",
		    "{\"score\":1,\"required_score\":2,\"action\":\"tag it\"}",
		    "yes tag-it 1.00/2.00" },
		{ "nothing", "", "no" },
		{ "no JSON", "<html>", "no" },
		{ "half an answer", HEAD, "no" },
		{ "more than one", HEAD "}{}", "no" },
		{ "no object", "[]", "no" },
		{ "no action", "{\"score\":4.2}", "no" },
		{ "no score", "{\"action\":\"reject\"}", "no" },
		{ "empty action", "{\"score\":1,\"action\":\"\"}", "no" },
		{ "action of another kind", "{\"score\":1,\"action\":1}",
		    "no" },
		{ "score of another kind",
		    "{\"score\":\"1\",\"action\":\"reject\"}", "no" },
		{ "score that is none", "{\"score\":nan,\"action\":\"reject\"}",
		    "no" },
		{ "error", "{\"error\":\"invalid command\"}", "no" },
	};
	size_t i;

	(void)state;
	for (i = 0; i < COUNT(rows); i++) {
		BUF(got, 4096);

		unit_text(rows[i].name,
		    read_answer(rows[i].in, strlen(rows[i].in), &got),
		    rows[i].want);
	}
}

static void
what_is_too_long_is_cut_or_no_verdict(void **state)
{
	BUF(answer, 64 * 1024);
	BUF(got, 4096);
	BUF(many, 4096);
	size_t i;

	(void)state;
	for (i = 0; i < 1000; i++)
		buf_addc(&many, 'x');
	buf_addf(&answer, "{\"score\":1,\"action\":\"%s\"}", many.data);
	unit_text("action", read_answer(answer.data, answer.len, &got), "no");
	buf_reset(&answer);
	buf_reset(&got);
	buf_addf(&answer,
	    HEAD ",\"symbols\":{\"A_VIRUS\":{\"options\":[\"%s\"]}},"
		 "\"messages\":{\"smtp_message\":\"%s\"}}",
	    many.data, many.data);
	(void)read_answer(answer.data, answer.len, &got);
	assert_memory_equal(got.data, "yes no-action 4.20/15.00 xxx", 28);
	assert_int_equal(facts[FACT_VIRUS].len, 64);
	/* The end of the text is as log_printable() marks what it cuts. */
	assert_in_range(got.len, SCAN_TEXT_MAX, SCAN_TEXT_MAX + 100);
}

static const struct reply *
settle(void *context, struct recipient *recipient)
{
	(void)context;
	(void)recipient;
	return &reply_rcpt_ok;
}

/* Nothing listens on port 1. */
static void
without_a_verdict_the_mail_is_taken_unless_one_is_required(void **state)
{
	struct smtp_config config = { .rspamd =
					  (char[]){ "http://127.0.0.1:1" },
		.rspamd_timeout_s = 5,
		.rspamd_reject = true };
	struct smtp s;
	struct message m;
	const struct reply *r;
	int required;

	for (required = 0; required <= 1; required++) {
		config.rspamd_required = required == 1;
		smtp_init(&s, &config, true, settle, NULL);
		s.transaction.reverse_path = strdup("");
		message_open(&m, "/tmp", 1000);
		message_add(&m, "x\r\n", 3);
		assert_int_equal(message_finish(&m), 0);
		(void)teardown(state);
		r = scan_message(&s, &m, clock_ms() + 60000, facts);
		unit_text("verdict", buf_text(&facts[FACT_VERDICT]), "none");
		assert_int_equal(facts[FACT_SCORE].len, 0);
		assert_ptr_equal(r, required == 1 ? &reply_try_later : NULL);
		message_close(&m);
		smtp_free(&s);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_are_read),
		cmocka_unit_test(what_is_too_long_is_cut_or_no_verdict),
		cmocka_unit_test(
		    without_a_verdict_the_mail_is_taken_unless_one_is_required),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

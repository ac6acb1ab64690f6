/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Any octets as rspamd's answer: there is a verdict in the words of the manual
 * or none at all, and what the client would be told is a printable line.
 */
#include <string.h>

#include "fuzz.h"

#include "scan.h"
#include "text.h"

#include "banned.h"

enum {
	VIRUS_MAX = 64
}; /* octets; swiftdrop(8) */

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return 0;
}

/* RFC 8601 section 2.7, as far as it is used. */
static bool
is_result(const char *word)
{
	static const char *const words[] = { "", "pass", "fail", "softfail",
		"neutral", "none", "temperror", "permerror" };
	size_t i;

	for (i = 0; i < COUNT(words); i++)
		if (strcmp(word, words[i]) == 0)
			return true;
	return false;
}

static void
check_verdict(const struct buf facts[FACTS], const struct buf *text)
{
	const struct buf *verdict = &facts[FACT_VERDICT];
	const struct buf *virus = &facts[FACT_VIRUS];
	size_t i;

	require(verdict->error == 0 && verdict->len > 0, "a verdict");
	require(strspn(verdict->data, "abcdefghijklmnopqrstuvwxyz"
				      "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789-") == verdict->len,
	    "a word as verdict");
	require(facts[FACT_SCORE].error == 0 && facts[FACT_SCORE].len > 0 &&
		    strspn(facts[FACT_SCORE].data, "0123456789-./") ==
			facts[FACT_SCORE].len,
	    "a score");
	for (i = FACT_SPF; i <= FACT_ARC; i++)
		require(is_result(buf_text(&facts[i])), "a result's word");
	require(virus->error == 0 && virus->len <= VIRUS_MAX &&
		    memchr(buf_text(virus), '|', virus->len) == NULL,
	    "a virus's name");
	require(text->error == 0 && text->len <= SCAN_TEXT_MAX, "a short text");
	for (i = 0; i < text->len; i++)
		require(text->data[i] >= ' ' && text->data[i] <= '~',
		    "a printable text");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf facts[FACTS] = { 0 };
	BUF(answer, 64 * 1024);
	BUF(text, 2 * SCAN_TEXT_MAX);
	size_t i;

	for (i = 0; i < FACTS; i++)
		facts[i].max = FACT_MAX;
	buf_add(&answer, data, size);
	if (answer.error == 0 && scan_read(&answer, facts, &text)) {
		check_verdict(facts, &text);
	} else {
		for (i = 0; i < FACTS; i++)
			require(facts[i].len == 0 && facts[i].error == 0,
			    "no fact without a verdict");
		require(text.len == 0, "no text without a verdict");
	}
	require(facts[FACT_MESSAGE_ID].len == 0, "no fact of another");
	for (i = 0; i < FACTS; i++)
		buf_free(&facts[i]);
	return 0;
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * rspamd's verdict on one message: POST /checkv2 of its normal worker, and
 * what the answer means.
 *
 * rspamd.com/doc/developers/protocol.html; RFC 8601 for the words
 */
#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "clock.h"
#include "http.h"
#include "log.h"
#include "scan.h"
#include "text.h"

#include "banned.h"

enum {
	WORD_MAX = 64, /* octets of an action or of a virus's name */
	RECIPIENTS_MAX = 64 * 1024 /* octets; rspamd takes a head of 80 KiB,
				      contrib/http-parser/http_parser.h */
};

/*
 * What symbols of rspamd's modules say, by the names that they have there.  Of
 * several the first counts: one signature that holds is enough.
 */
static const struct {
	const char *symbol;
	enum fact fact;
	const char *word;
} results[] = {
	{ "R_SPF_ALLOW", FACT_SPF, "pass" },
	{ "R_SPF_FAIL", FACT_SPF, "fail" },
	{ "R_SPF_SOFTFAIL", FACT_SPF, "softfail" },
	{ "R_SPF_NEUTRAL", FACT_SPF, "neutral" },
	{ "R_SPF_NA", FACT_SPF, "none" },
	{ "R_SPF_DNSFAIL", FACT_SPF, "temperror" },
	{ "R_SPF_PERMFAIL", FACT_SPF, "permerror" },
	{ "R_DKIM_ALLOW", FACT_DKIM, "pass" },
	{ "R_DKIM_REJECT", FACT_DKIM, "fail" },
	{ "R_DKIM_TEMPFAIL", FACT_DKIM, "temperror" },
	{ "R_DKIM_PERMFAIL", FACT_DKIM, "permerror" },
	{ "R_DKIM_NA", FACT_DKIM, "none" },
	{ "DMARC_POLICY_ALLOW", FACT_DMARC, "pass" },
	{ "DMARC_POLICY_ALLOW_WITH_FAILURES", FACT_DMARC, "pass" },
	{ "DMARC_POLICY_REJECT", FACT_DMARC, "fail" },
	{ "DMARC_POLICY_QUARANTINE", FACT_DMARC, "fail" },
	{ "DMARC_POLICY_SOFTFAIL", FACT_DMARC, "fail" },
	{ "DMARC_NA", FACT_DMARC, "none" },
	{ "DMARC_DNSFAIL", FACT_DMARC, "temperror" },
	{ "DMARC_BAD_POLICY", FACT_DMARC, "permerror" },
	{ "ARC_ALLOW", FACT_ARC, "pass" },
	{ "ARC_REJECT", FACT_ARC, "fail" },
	{ "ARC_NA", FACT_ARC, "none" },
	{ "ARC_DNSFAIL", FACT_ARC, "temperror" },
	{ "ARC_INVALID", FACT_ARC, "permerror" },
};

/* Nothing is dropped in silence: who sent it is told. */
static const struct {
	const char *verdict;
	const struct reply *reply;
} refusals[] = {
	{ "reject", &reply_spam },
	{ "discard", &reply_spam },
	{ "quarantine", &reply_spam },
	{ "soft-reject", &reply_try_later },
};

/*
 * Whether a symbol is that of a virus scanner: as in the antivirus module's
 * own examples, or as the module makes it up for a section "clamav".
 */
static bool
is_virus(const char *symbol)
{
	const char *end;

	end = strrchr(symbol, '_');
	return strcmp(end == NULL ? symbol : end, "_VIRUS") == 0 ||
	       strcmp(symbol, "CLAMAV") == 0;
}

static void
take_symbols(json_t *symbols, struct buf facts[FACTS])
{
	const char *name, *text;
	struct buf *fact;
	json_t *symbol;
	size_t i, len;

	for (i = 0; i < COUNT(results); i++) {
		fact = &facts[results[i].fact];
		if (fact->len == 0 &&
		    json_object_get(symbols, results[i].symbol) != NULL)
			buf_adds(fact, results[i].word);
	}
	json_object_foreach(symbols, name, symbol)
	{
		text = json_string_value(
		    json_array_get(json_object_get(symbol, "options"), 0));
		fact = &facts[FACT_VIRUS];
		/* With show_attachments a file's name follows. */
		len = text == NULL ? 0 : strcspn(text, "|");
		if (fact->len == 0 && is_virus(name))
			buf_add(fact, text, len < WORD_MAX ? len : WORD_MAX);
	}
}

/* The action and the score, without which there is no verdict. */
static bool
take_verdict(const json_t *root, struct buf facts[FACTS])
{
	const json_t *score = json_object_get(root, "score");
	const char *action;

	action = json_string_value(json_object_get(root, "action"));
	if (!json_is_number(score) || action == NULL || *action == '\0' ||
	    strlen(action) > WORD_MAX)
		return false;
	for (; *action != '\0'; action++)
		buf_addc(&facts[FACT_VERDICT],
		    isalnum((unsigned char)*action) ? *action : '-');
	buf_addf(&facts[FACT_SCORE], "%.2f/%.2f", json_number_value(score),
	    json_number_value(json_object_get(root, "required_score")));
	return true;
}

bool
scan_read(struct buf *answer, struct buf facts[FACTS], struct buf *text)
{
	const char *message;
	json_t *root;
	bool usable;
	size_t i;

	/* What is quoted from a message need not be UTF-8. */
	for (i = 0; i < answer->len; i++)
		if (!text_is_ascii(answer->data + i, 1))
			answer->data[i] = '?';
	root = json_loadb(buf_text(answer), answer->len, JSON_ALLOW_NUL, NULL);
	usable = take_verdict(root, facts);
	if (usable) {
		take_symbols(json_object_get(root, "symbols"), facts);
		message = json_string_value(
		    json_object_get(json_object_get(root, "messages"),
			"smtp_message"));
		if (message != NULL)
			log_printable(text, message, strlen(message),
			    SCAN_TEXT_MAX);
	}
	json_decref(root);
	return usable;
}

static void
add_known(struct http_request *r, const char *name, const char *value)
{
	if (value != NULL && *value != '\0')
		http_header(r, "%s: %s", name, value);
}

static void
add_headers(struct http_request *r, const struct smtp *s)
{
	const struct transaction *t = &s->transaction;
	size_t i, left, len;
	const char *path;

	/* rspamd knows no 100, and libcurl would wait for it. */
	http_header(r, "Expect:");
	http_header(r, "MTA-Name: %s", s->config->hostname);
	add_known(r, "IP", object_client_addr(t));
	add_known(r, "Hostname", t->xforward[XFORWARD_NAME]);
	add_known(r, "Helo", t->xforward[XFORWARD_HELO]);
	add_known(r, "Queue-Id", t->xforward[XFORWARD_IDENT]);
	http_header(r, "From: <%s>", t->reverse_path);
	left = RECIPIENTS_MAX;
	for (i = 0; i < t->nrecipients; i++) {
		path = t->recipients[i]->path;
		len = strlen(path) + strlen("Rcpt: <>\r\n");
		if (len > left)
			break;
		left -= len;
		http_header(r, "Rcpt: <%s>", path);
	}
}

/* Makes the request; whether it was answered. */
static bool
ask(struct http_request *r, const char *url, int64_t deadline_ms)
{
	enum http_fault fault;
	struct http *h;

	/* Its worker knows one path, and not with two slashes. */
	buf_adds(&r->url, url);
	while (r->url.len > 0 && r->url.data[r->url.len - 1] == '/')
		buf_cut(&r->url, r->url.len - 1);
	buf_adds(&r->url, "/checkv2");
	h = http_open();
	if (h == NULL) {
		buf_adds(&r->reason, strerror(ENOMEM));
		return false;
	}
	fault = http_perform(h, r, deadline_ms);
	http_close(h);
	return fault == HTTP_ANSWERED && r->status == 200;
}

/* What a verdict means for the message, with rspamd's own words if any. */
static const struct reply *
judge(struct smtp *s, const char *verdict, const char *text)
{
	size_t i;

	for (i = 0; i < COUNT(refusals); i++)
		if (strcmp(verdict, refusals[i].verdict) == 0)
			break;
	if (i == COUNT(refusals) || !s->config->rspamd_reject)
		return NULL;
	if (*text == '\0')
		return refusals[i].reply;
	return smtp_compose(s, refusals[i].reply->code, "%s %s",
	    refusals[i].reply->status, text);
}

/* A mail does not wait for rspamd's administrator, but who looks is told. */
static const struct reply *
do_without(const struct smtp *s, const struct http_request *r,
    struct buf *verdict)
{
	BUF(reason, LOG_LINE_MAX);
	struct log_line l;

	buf_adds(verdict, "none");
	http_add_outcome(r, &reason);
	log_begin(&l, LOG_RSPAMD, LOG_LEVEL_WARNING);
	log_add_quoted(&l, "reason", buf_text(&reason));
	log_end(&l);
	return s->config->rspamd_required ? &reply_try_later : NULL;
}

const struct reply *
scan_message(struct smtp *s, const struct message *m, int64_t deadline_ms,
    struct buf facts[FACTS])
{
	static char certificates[] = "/etc/ssl/certs";
	const struct http_options options = { .cacert = certificates,
		.timeout_s = s->config->rspamd_timeout_s };
	BUF(text, 2 * SCAN_TEXT_MAX);
	const struct reply *reply;
	struct http_request r;

	http_request_init(&r, &options, "POST");
	r.read = message_read;
	r.body = m;
	r.size = m->size;
	add_headers(&r, s);
	deadline_ms = clock_within(options.timeout_s * 1000, deadline_ms);
	if (ask(&r, s->config->rspamd, deadline_ms) &&
	    scan_read(&r.answer, facts, &text) &&
	    facts[FACT_VERDICT].error == 0)
		reply =
		    judge(s, buf_text(&facts[FACT_VERDICT]), buf_text(&text));
	else
		reply = do_without(s, &r, &facts[FACT_VERDICT]);
	http_request_free(&r);
	return reply;
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The server's side of SMTP: commands in, replies out, and nothing else.  No
 * input or output happens here: the caller brings lines and octets, sends
 * what is returned, and settles each recipient through a callback.
 *
 * RFC 5321 (SMTP), 1870 (SIZE), 6152 (8BITMIME), 6531 (SMTPUTF8), 2034 and
 * 3463 (enhanced status codes), 2920 (PIPELINING), 3461 (DSN parameters), 4954
 * (AUTH parameter); Postfix's XFORWARD_README.
 */
#ifndef SMTP_H
#define SMTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"
#include "buf.h"
#include "config.h"

enum {
	SMTP_LINE_MAX = 2048, /* octets, CRLF not counted; Postfix
				 line_length_limit */
	SMTP_ERRORS_MAX = 20  /* Postfix smtpd_hard_error_limit */
};

/* A reply; text may have several lines, separated by LF. */
struct reply {
	int code;
	const char *status; /* enhanced status code, NULL for none */
	const char *text;
};

/* Replies that are not answers to a command's syntax or sequence. */
enum reply_id {
	REPLY_WRITE_ERROR,     /* may pass: 451 4.3.0 */
	REPLY_CONFIG_ERROR,    /* ours to mend: 451 4.3.5 */
	REPLY_NO_STORAGE,      /* 452 4.3.1 */
	REPLY_TOO_BIG,         /* 552 5.3.4 */
	REPLY_BARE_LF_DATA,    /* 550 5.5.2 */
	REPLY_BARE_LF,         /* 500 5.5.2 */
	REPLY_LINE_TOO_LONG,   /* 500 5.5.2 */
	REPLY_UNKNOWN_450,     /* 450 4.1.1 */
	REPLY_UNKNOWN_550,     /* 550 5.1.1 */
	REPLY_RCPT_OK,         /* 250 2.1.5 */
	REPLY_FORWARDED,       /* 250 2.0.0 */
	REPLY_TIMEOUT,         /* 421 4.4.2 */
	REPLY_STOPPING,        /* 421 4.3.2 */
	REPLY_TOO_MANY_ERRORS, /* 421 4.7.0 */
	REPLY_REMOTE,          /* 421 4.7.0 */
	REPLY_BROKEN_CONFIG    /* 421 4.3.5 */
};

/* MAIL and RCPT parameters (RFC 5321 section 4.1.1.11). */
enum parameter {
	PARAMETER_SIZE,
	PARAMETER_BODY,
	PARAMETER_SMTPUTF8,
	PARAMETER_AUTH,
	PARAMETER_RET,
	PARAMETER_ENVID,
	PARAMETER_NOTIFY,
	PARAMETER_ORCPT,
	PARAMETER_COUNT
};

struct parameters {
	bool given[PARAMETER_COUNT];
	struct buf value[PARAMETER_COUNT]; /* owned; as given */
};

/* XFORWARD attributes, in the order in which they are announced. */
enum xforward {
	XFORWARD_NAME,
	XFORWARD_ADDR,
	XFORWARD_PORT,
	XFORWARD_PROTO,
	XFORWARD_HELO,
	XFORWARD_IDENT,
	XFORWARD_SOURCE,
	XFORWARD_COUNT
};

struct recipient {
	struct buf path; /* owned; the mailbox as given, no source route */
	struct address address; /* owned */
	struct parameters parameters;
	ptrdiff_t account; /* for the callback to set; ROUTE_NONE */
};

/* What one MAIL begins and the end of data, RSET or EHLO ends. */
struct transaction {
	struct buf reverse_path; /* owned; "" for the null reverse-path */
	struct parameters parameters;
	struct recipient **recipients; /* owned; pointers stay valid */
	size_t nrecipients;
	size_t nrefused; /* recipients that were answered 4yz or 5yz */
	struct buf xforward[XFORWARD_COUNT]; /* owned; decoded; "" unknown */
	bool xforward_used;
};

/*
 * Settles a recipient whose syntax is right: returns the reply to its RCPT;
 * any but 2yz refuses it.  The recipient is borrowed.
 */
typedef const struct reply *smtp_settle_fn(void *context,
    struct recipient *recipient);

enum smtp_state {
	SMTP_START, /* greeted, no EHLO or HELO yet */
	SMTP_READY, /* between transactions */
	SMTP_MAIL,  /* MAIL was accepted */
	SMTP_RCPT,  /* at least one RCPT was accepted */
	SMTP_DATA,  /* 354 was answered: mail data comes */
	SMTP_QUIT   /* nothing is read any more */
};

struct smtp {
	const struct smtp_config *config; /* borrowed */
	bool xforward_allowed;
	smtp_settle_fn *settle;
	void *context; /* borrowed; for settle */
	enum smtp_state state;
	unsigned int errors;
	bool refused;    /* the newest 5yz is a refused recipient's */
	struct buf helo; /* owned */
	struct transaction transaction;
	struct reply composed; /* made at run time; its text is in text */
	struct buf text;
};

/*
 * Prepares a session in the caller's storage.  config, settle and context are
 * borrowed for its life; xforward_allowed: the peer may use XFORWARD.
 */
void smtp_init(struct smtp *s, const struct smtp_config *config,
    bool xforward_allowed, smtp_settle_fn *settle, void *context);
void smtp_free(struct smtp *s);

/* The greeting, 220. */
const struct reply *smtp_greeting(struct smtp *s);

/*
 * Carries out one command: line holds len octets without CRLF (borrowed, may
 * have NULs).  Returns the one reply to it, borrowed until the next call.
 * After 354 (state SMTP_DATA) the mail data is the caller's.
 */
const struct reply *smtp_command(struct smtp *s, const char *line, size_t len);

/* The reply to a line that could not be read as a command; counts it. */
const struct reply *smtp_refuse_line(struct smtp *s, enum reply_id id);

/* Ends mail data: the transaction is over, whatever the reply says. */
void smtp_end_of_data(struct smtp *s, const struct reply *reply);

/* Whether the client made so many errors that it is sent away. */
bool smtp_too_many_errors(const struct smtp *s);

/* One of the replies above. */
const struct reply *smtp_reply(enum reply_id id);

/*
 * The enhanced status code of a reply, also of one whose text another server
 * wrote; "" where it has none.  Borrowed from code, which is overwritten.
 */
const char *smtp_reply_status(const struct reply *r, char code[16]);

/* A reply with text made at run time; borrowed until the next command. */
const struct reply *smtp_compose(struct smtp *s, int code, const char *status,
    const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Appends a reply as it goes over the wire.  Returns 0 or -1 with errno. */
int smtp_format(const struct reply *r, struct buf *out);

/* The keyword of a parameter, and the extension that must be announced. */
const char *smtp_parameter_keyword(enum parameter p);
const char *smtp_parameter_extension(enum parameter p);

/* The name of an XFORWARD attribute. */
const char *smtp_xforward_name(enum xforward x);

/* Mail data, being decoded; see smtp_data_decode(). */
enum data_state {
	DATA_LINE, /* at the start of a line */
	DATA_TEXT,
	DATA_CR,     /* after CR */
	DATA_DOT,    /* after a dot that began a line; it is not content */
	DATA_DOT_CR, /* after such a dot and CR */
	DATA_END     /* CRLF.CRLF came */
};

struct data {
	enum data_state state;
	bool bare_lf; /* a LF without CR came: the message is refused */
};

/* Takes content; len is never 0.  context is that of smtp_data_decode(). */
typedef void smtp_sink_fn(void *context, const char *text, size_t len);

/* Mail data begins, right behind 354. */
void smtp_data_init(struct data *d);

/*
 * Takes dot-stuffing away (RFC 5321 section 4.5.2) from len octets at in and
 * hands the content to sink in order.  Only CRLF.CRLF ends it; d->state is
 * DATA_END then.  Returns how many octets it took; what follows is the next
 * command.
 */
size_t smtp_data_decode(struct data *d, const char *in, size_t len,
    smtp_sink_fn *sink, void *context);

#endif

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Any octets as a client's side of a session: whatever comes, the session
 * ends, every line of its answer is a reply, and nothing is promised that no
 * store has taken.  Behind it nothing listens: neither the store nor the
 * re-injection server.
 */
#include <sys/mman.h>

#include <string.h>

#include "fuzz.h"

#include "config.h"
#include "session.h"
#include "smtp.h"

#include "banned.h"

/* Port 1 and a path below a file: both refuse at once, on every machine. */
static const char config_text[] =
    "[SMTP]\n"
    "hostname = filter.example\n"
    "message_size_limit = 1000\n"
    "recipient_limit = 3\n"
    "reinject = unix:/dev/null/nothing\n"
    "[one]\n"
    "recipients = a@example.org, @one.example\n"
    "container = one\n"
    "auth_version = tempurl\n"
    "storage_url = http://127.0.0.1:1/v1/AUTH_one\n"
    "temp_url_query = temp_url_sig=0&temp_url_expires=0\n"
    "timeout = 1\n"
    "retries = 0\n"
    "[two]\n"
    "recipients = b@example.org\n"
    "container = two\n"
    "auth_version = 1\n"
    "authurl = http://127.0.0.1:1/auth/v1.0\n"
    "user = u\n"
    "key = k\n"
    "timeout = 1\n"
    "retries = 0\n";

static struct config config;
static int in = -1, out = -1;

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	char *nothing[] = { NULL };
	BUF(faults, 4096);
	char path[64];

	(void)argc;
	(void)argv;
	in = memfd_create("in", MFD_CLOEXEC);
	out = memfd_create("out", MFD_CLOEXEC);
	require(in != -1 && out != -1, "memfd_create");
	fill(in, config_text, sizeof(config_text) - 1);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", in);
	require(config_load(&config, path, nothing, &faults) == 0,
	    buf_text(&faults));
	return 0;
}

/* RFC 5321 section 4.2: three digits, a blank or hyphen, printable text. */
static void
check_line(const char *line, size_t len)
{
	static const char stored[] = "250 2.0.0 Ok: ";
	size_t i;

	require(len >= 4 && line[0] >= '2' && line[0] <= '5' &&
		    (line[3] == ' ' || line[3] == '-'),
	    "a reply code");
	for (i = 0; i < len; i++)
		require(line[i] >= ' ' && line[i] <= '~', "printable replies");
	require(len < sizeof(stored) - 1 ||
		    memcmp(line, stored, sizeof(stored) - 1) != 0,
	    "no promise: nothing can be stored here");
}

static void
check_replies(void)
{
	static char text[1024 * 1024];
	const char *line, *end;
	ssize_t n;

	n = pread(out, text, sizeof(text), 0);
	require(n > 0 && n < (ssize_t)sizeof(text), "an answer of some size");
	require(strncmp(text, "220 ", 4) == 0, "a greeting");
	for (line = text; line < text + n; line = end + 1) {
		end = memchr(line, '\n', (size_t)(text + n - line));
		require(end != NULL && end > line && end[-1] == '\r',
		    "CRLF behind each reply");
		check_line(line, (size_t)(end - 1 - line));
	}
}

static void
collect(void *context, const char *text, size_t len)
{
	require(len > 0, "content that is not empty");
	buf_add(context, text, len);
	require(((const struct buf *)context)->error == 0,
	    "no more than came in");
}

/* However the octets are cut into pieces, the decoder finds the same. */
static void
check_decoder(const char *data, size_t size)
{
	struct data whole = { .state = DATA_LINE };
	struct data octets = { .state = DATA_LINE };
	BUF(a, size);
	BUF(b, size);
	size_t i, taken;

	taken = smtp_data_decode(&whole, data, size, collect, &a);
	for (i = 0; i < size && octets.state != DATA_END; i++)
		(void)smtp_data_decode(&octets, data + i, 1, collect, &b);
	require(taken == i && whole.state == octets.state &&
		    whole.bare_lf == octets.bare_lf,
	    "the same end");
	require(a.len == b.len &&
		    memcmp(buf_text(&a), buf_text(&b), a.len) == 0,
	    "the same content");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fill(in, data, size);
	fill(out, "", 0);
	session_run(&config, in, out, -1);
	check_replies();
	check_decoder((const char *)data, size);
	return 0;
}

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The floor of a process for each mail: a filter that takes everything and
 * stores nothing. Linked statically, without a library; what swiftdrop does
 * slower than this is its own.
 */
#include <string.h>
#include <unistd.h>

enum {
	INPUT_MAX = 64 * 1024
};

static char input[INPUT_MAX];

static int
say(const char *text)
{
	size_t len = strlen(text);

	return write(STDOUT_FILENO, text, len) == (ssize_t)len;
}

static const char *
reply_to(const char *line, int *data)
{
	static const struct {
		const char *verb, *reply;
	} replies[] = {
		{ "EHLO", "250-sink\r\n250-8BITMIME\r\n250-SIZE\r\n250 "
			  "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE\r\n" },
		{ "DATA", "354 go\r\n" },
		{ "QUIT", "221 bye\r\n" },
	};
	size_t i;

	*data = strncmp(line, "DATA", 4) == 0;
	for (i = 0; i < sizeof(replies) / sizeof(replies[0]); i++)
		if (strncmp(line, replies[i].verb, 4) == 0)
			return replies[i].reply;
	return "250 ok\r\n";
}

int
main(void)
{
	const char *end = "\r\n", *found, *reply;
	size_t len = 0, used;
	int data = 0;
	ssize_t n;

	if (!say("220 sink\r\n"))
		return 1;
	for (;;) {
		n = read(STDIN_FILENO, input + len, INPUT_MAX - len);
		if (n <= 0)
			return 0;
		len += (size_t)n;
		while ((found = memmem(input, len, end, strlen(end))) != NULL) {
			used = (size_t)(found - input) + strlen(end);
			reply = data ? "250 ok\r\n" : reply_to(input, &data);
			if (reply[0] != '3')
				data = 0;
			end = data ? "\r\n.\r\n" : "\r\n";
			if (!say(reply))
				return 1;
			if (reply[0] == '2' && reply[1] == '2')
				return 0;
			len -= used;
			memmove(input, input + used, len);
		}
		/* Content that is longer: only its end matters. */
		if (data && len > 4) {
			memmove(input, input + len - 4, 4);
			len = 4;
		}
	}
}

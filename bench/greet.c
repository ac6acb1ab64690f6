/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The floor of bench/run: a static program that greets and exits.  No SMTP
 * server that is started for its connection can greet sooner.
 */
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

int
main(void)
{
	static const char greeting[] = "220 floor ESMTP\r\n";

	return write(STDOUT_FILENO, greeting, strlen(greeting)) > 0 ? EX_OK
								    : EX_IOERR;
}

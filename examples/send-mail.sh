#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# send-mail.sh HOST:PORT RECIPIENT... - sends a small mail by SMTP and shows
# the dialogue. Needs bash alone; for more, see swaks(1).

set -euo pipefail

[ $# -ge 2 ] || { echo "usage: send-mail.sh HOST:PORT RECIPIENT..." >&2; exit 64; }
server=$1
shift
exec 3<>"/dev/tcp/${server%:*}/${server##*:}"

# Reads one reply; ends the program when it is not of the class wanted.
expect() {
	local line

	while IFS= read -r -t 120 line <&3; do
		line=${line%$'\r'}
		printf 'S: %s\n' "$line"
		[ "${line:3:1}" = - ] || break
	done
	[[ ${line:-} == "$1"* ]] || exit 1
}

say() {
	printf 'C: %s\n' "$1"
	printf '%s\r\n' "$1" >&3
}

expect 2
say "EHLO $(uname -n)"
expect 2
say "MAIL FROM:<sender@example.net>"
expect 2
for recipient; do
	say "RCPT TO:<$recipient>"
	expect 2
done
say DATA
expect 3
say "From: <sender@example.net>"
say "To: <$1>"
say "Date: $(LC_ALL=C date -R)"
say "Subject: a mail from send-mail.sh"
say ""
say "Hello."
say .
expect 2
say QUIT
expect 2

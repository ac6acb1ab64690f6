#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# run-container.sh - runs the image against a Swift with v1 authentication,
# such as the one that "make demo" starts. Mail for orders@ and
# invoices@example.org is taken at port $PORT until Ctrl-C. Each in a terminal
# of its own:
#
#	make image && make demo SWIFT_PORT=8080
#	AUTHURL=http://127.0.0.1:8080/auth/v1.0 NETWORK=host \
#	    examples/run-container.sh
#	examples/send-mail.sh 127.0.0.1:25 orders@example.org
#
# Other variables, with their defaults, are below; the container must exist.
# ENGINE may be docker. Arguments are options for it.

set -euo pipefail

: "${AUTHURL:?is not set, e.g. http://127.0.0.1:8080/auth/v1.0}"
engine=${ENGINE:-podman}
image=${IMAGE:-swiftdrop}
name=${NAME:-swiftdrop-example}
container=${CONTAINER:-production}
user=${SWIFT_USER:-test:tester}
key=${SWIFT_KEY:-testing}
port=${PORT:-2525}
network=(--publish "$port:25")
# A Swift on this host's loopback, as the demo's, is seen by a container on the
# host's network only; mail is then taken at port 25.
if [ "${NETWORK:-}" = host ]; then
	network=(--network=host)
fi

exec "$engine" run --rm --interactive --name "$name" \
	"${network[@]}" \
	--read-only \
	--tmpfs /run/swiftdrop:mode=0755 \
	--volume "$name-spool:/var/spool/postfix" \
	--cap-drop=all \
	--cap-add=SETUID --cap-add=SETGID --cap-add=NET_BIND_SERVICE \
	--security-opt=no-new-privileges \
	--stop-timeout=120 \
	--env MYHOSTNAME=mail.example.org \
	--env 'RECIPIENTS=["orders@example.org", "invoices@example.org"]' \
	--env SWIFTDROP_DEMO_RECIPIENTS=orders@example.org,invoices@example.org \
	--env SWIFTDROP_DEMO_CONTAINER="$container" \
	--env SWIFTDROP_DEMO_AUTH_VERSION=1 \
	--env SWIFTDROP_DEMO_AUTHURL="$AUTHURL" \
	--env SWIFTDROP_DEMO_USER="$user" \
	--env SWIFTDROP_DEMO_KEY="$key" \
	"$@" "$image"

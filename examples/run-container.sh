#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# run-container.sh - runs the image against a Swift with v1 authentication,
# such as the one that "make demo" starts. Mail is taken at port $PORT.
#
#	make image
#	AUTHURL=http://127.0.0.1:8080/auth/v1.0 examples/run-container.sh
#	examples/send-mail.sh 127.0.0.1:2525 a@example.org
#
# Other variables, with their defaults, are below. ENGINE may be docker.

set -euo pipefail

: "${AUTHURL:?is not set, e.g. http://127.0.0.1:8080/auth/v1.0}"
engine=${ENGINE:-podman}
image=${IMAGE:-swiftdrop}
container=${CONTAINER:-mail}
user=${SWIFT_USER:-test:tester}
key=${SWIFT_KEY:-testing}
port=${PORT:-2525}
network=(--publish "$port:25")
# A Swift on this host's loopback is seen by a container on its network only;
# mail is then taken at port 25.
if [ "${NETWORK:-}" = host ]; then
	network=(--network=host)
fi

exec "$engine" run --rm --interactive --name swiftdrop-example \
	"${network[@]}" \
	--read-only \
	--tmpfs /run/swiftdrop:mode=0755 \
	--volume swiftdrop-spool:/var/spool/postfix \
	--cap-drop=all \
	--cap-add=SETUID --cap-add=SETGID --cap-add=NET_BIND_SERVICE \
	--security-opt=no-new-privileges \
	--stop-timeout=120 \
	--env MYHOSTNAME=mail.example.org \
	--env 'RECIPIENTS=["a@example.org", "b@example.org"]' \
	--env SWIFTDROP_DEMO_RECIPIENTS=a@example.org,b@example.org \
	--env SWIFTDROP_DEMO_CONTAINER="$container" \
	--env SWIFTDROP_DEMO_AUTH_VERSION=1 \
	--env SWIFTDROP_DEMO_AUTHURL="$AUTHURL" \
	--env SWIFTDROP_DEMO_USER="$user" \
	--env SWIFTDROP_DEMO_KEY="$key" \
	"$@" "$image"

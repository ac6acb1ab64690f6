# SPDX-License-Identifier: GPL-3.0-or-later
#
# The container image. Used by the Makefile at the top of the tree (the
# targets image and image-filter) and inside the image's build stage (the
# target image-programs).

PODMAN ?= podman
IMAGE ?= swiftdrop
# A Debian 12 to build in; the default is the Containerfile's.
BASE ?=
IMAGE_VERSION ?= $(or $(VERSION),unknown)
IMAGE_REVISION ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)

image_build = $(PODMAN) build --network=host -f image/Containerfile \
	$(if $(BASE),--build-arg BASE=$(BASE)) \
	--build-arg VERSION=$(IMAGE_VERSION) \
	--build-arg REVISION=$(IMAGE_REVISION)

.PHONY: image image-filter image-programs
image:
	$(image_build) --target postfix -t $(IMAGE) .

image-filter:
	$(image_build) --target filter -t $(IMAGE)-filter .

# swiftdrop-entry: its own parts and those of swiftdrop that read the
# configuration.
ENTRY_PARTS = agree certificate environment files health list listener logs \
	postconf sessions settings spool supervise tls
ENTRY_CORE = address buf clock config endpoint ini log route stream
ENTRY_SOURCES = image/swiftdrop-entry.c $(ENTRY_PARTS:%=image/%.c) \
	$(ENTRY_CORE:%=%.c)
ENTRY_CFLAGS = -std=c17 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -I. \
	-Iimage -DVERSION='"$(IMAGE_VERSION)"' \
	-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong \
	-fstack-clash-protection -fPIE -ffunction-sections -fdata-sections
ENTRY_LDFLAGS = -pie -Wl,-z,relro,-z,now,-z,noexecstack,--as-needed \
	-Wl,--gc-sections

swiftdrop-entry: $(ENTRY_SOURCES) $(wildcard *.h image/*.h)
	$(CC) $(ENTRY_CFLAGS) $(ENTRY_LDFLAGS) -o $@ $(ENTRY_SOURCES) \
		-Wl,-Bstatic -ljansson -Wl,-Bdynamic -lcrypto

image-programs: swiftdrop-entry
	$(MAKE) CPPFLAGS=-I/build/curl/install/include swiftdrop
	install -D -m 755 swiftdrop-entry $(DESTDIR)/usr/sbin/swiftdrop-entry
	install -D -m 755 swiftdrop $(DESTDIR)/usr/sbin/swiftdrop
	install -D -m 644 postfix/main.cf $(DESTDIR)/usr/share/swiftdrop/main.cf
	cat postfix/master.cf postfix/master-spawn.cf > \
		$(DESTDIR)/usr/share/swiftdrop/master.cf

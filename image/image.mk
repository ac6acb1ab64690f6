# SPDX-License-Identifier: GPL-3.0-or-later
#
# The container image; a part of the Makefile at the top of the tree. The
# targets image and image-filter build it, image-programs runs inside its
# build stage.

PODMAN ?= podman
IMAGE ?= swiftdrop
# A Debian 12 to build in; the default is the Containerfile's.
BASE ?=
IMAGE_REVISION ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)

image_build = $(PODMAN) build --network=host -f image/Containerfile \
	$(if $(BASE),--build-arg BASE=$(BASE)) \
	--build-arg VERSION=$(VERSION) \
	--build-arg REVISION=$(IMAGE_REVISION)

.PHONY: image image-filter image-programs
image:
	$(image_build) --target postfix -t $(IMAGE) .

image-filter:
	$(image_build) --target filter -t $(IMAGE)-filter .

# swiftdrop-entry: its own parts and those of swiftdrop that read the
# configuration. It needs no library at first use.
ENTRY_PARTS = agree certificate environment files health list listener logs \
	postconf sessions settings spool supervise tls
ENTRY_CORE = address buf clock config endpoint ini log route stream
ENTRY_SOURCES = image/swiftdrop-entry.c $(ENTRY_PARTS:%=image/%.c)

swiftdrop-entry: $(ENTRY_SOURCES) $(ENTRY_CORE:=.c) $(HEADERS)
	$(CC) $(CFLAGS) $(HARDEN) -ffunction-sections -fdata-sections \
		$(DEFINES) -Wall -Wextra $(LDHARDEN) -Wl,--gc-sections -o $@ \
		$(ENTRY_SOURCES) $(ENTRY_CORE:=.c) -ljansson -lcrypto

image-programs: swiftdrop-entry
	$(MAKE) CPPFLAGS=-I/build/curl/install/include swiftdrop
	install -D -m 755 swiftdrop-entry $(DESTDIR)/usr/sbin/swiftdrop-entry
	install -D -m 755 swiftdrop $(DESTDIR)/usr/sbin/swiftdrop
	install -D -m 644 postfix/main.cf $(DESTDIR)/usr/share/swiftdrop/main.cf
	cat postfix/master.cf postfix/master-spawn.cf > \
		$(DESTDIR)/usr/share/swiftdrop/master.cf

# Its sources are read by the lint of the top Makefile, its tests are run
# with the others.
DEFINES += -I.
SOURCES += $(ENTRY_SOURCES)
HEADERS += $(wildcard image/*.h)
ENTRY_TESTED = $(filter-out image/swiftdrop-entry.c,$(ENTRY_SOURCES))

$(B)/unit_entry: tests/unit_entry.c $(ENTRY_TESTED) $(OBJECTS) $(HEADERS)
	$(CC) $(CFLAGS) $(HARDEN) $(DEFINES) $(WARN) -o $@ $< \
		$(ENTRY_TESTED) $(OBJECTS) $(LDHARDEN) -lcmocka $(LIBS) -lcrypto

$(B)/san/unit_entry: tests/unit_entry.c $(ENTRY_TESTED) \
		$(PARTS:%=$(B)/san/%.o) $(HEADERS)
	$(CLANG) $(SANITIZE) $(DEFINES) -o $@ $< $(ENTRY_TESTED) \
		$(PARTS:%=$(B)/san/%.o) -lcmocka $(LIBS) -lcrypto

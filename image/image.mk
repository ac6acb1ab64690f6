# SPDX-License-Identifier: GPL-3.0-or-later
#
# The container image; a part of the Makefile at the top of the tree. The
# targets image and image-filter build it, image-programs runs inside its
# build stage.

PODMAN ?= podman
IMAGE ?= swiftdrop
# A Debian to build in, or the release of one; the default of both is the
# Containerfile's.
BASE ?=
RELEASE ?=
# Its labels. SOURCE is the URL that the source is at. They are public: of a
# clone's URL, a user and a password are left out, and any that is not https.
REVISION ?= $(shell git rev-parse -q --verify HEAD 2>/dev/null || echo unknown)
SOURCE ?= $(shell git remote get-url origin 2>/dev/null)
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || date +%s)
# More options of the builder: "--format docker" for podman.
IMAGE_OPTIONS ?=

created = $(shell date -u -d @$(SOURCE_DATE_EPOCH) +%Y-%m-%dT%H:%M:%SZ)
source_label = $(shell printf '%s\n' '$(SOURCE)' | \
	sed -nE 's|^https://([^/@]*@)?([A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~/%@+-]*)?)$$|https://\2|p')

# The labels are written into the Containerfile: as arguments podman does not
# ask for them, and takes those of an earlier build from its cache.
image_build = sed 's|$${VERSION}|$(VERSION)|; s|$${REVISION}|$(REVISION)|; \
	s|$${CREATED}|$(created)|; s|$${SOURCE}|$(source_label)|' \
	image/Containerfile | $(PODMAN) build --network=host -f - \
	$(if $(BASE),--build-arg BASE=$(BASE)) \
	$(if $(RELEASE),--build-arg RELEASE=$(RELEASE)) \
	$(if $(CURL_VERSION),--build-arg CURL_VERSION=$(CURL_VERSION)) \
	--build-arg CREATED=$(created) \
	$(IMAGE_OPTIONS)

.PHONY: image image-filter image-programs
image:
	$(image_build) --target postfix -t $(IMAGE) .

image-filter:
	$(image_build) --target filter -t $(IMAGE)-filter .

# swiftdrop-entry: its own parts and those of swiftdrop that read the
# configuration.
ENTRY_PARTS = $(patsubst %.c,%,$(filter-out image/swiftdrop-entry.c,\
	$(wildcard image/*.c)))
ENTRY_CORE = config $(addprefix lib/,address buf clock file ini log reply \
	route stream text)
# The names of domains; it is in the image for Postfix.
ENTRY_LIBS = -licuuc
ENTRY_OBJECTS = $(ENTRY_PARTS:%=$(B)/%.o)

swiftdrop-entry $(B)/swiftdrop-entry: $(B)/image/swiftdrop-entry.o \
		$(ENTRY_OBJECTS) $(ENTRY_CORE:%=$(B)/%.o)
	$(CC) $(CFLAGS) $(HARDEN) $(LDHARDEN) $(LDFLAGS) -o $@ $^ \
		-ljansson -lcrypto $(ENTRY_LIBS)

# What it starts from: the project's files for a host, then those with what is
# different here; a parameter or a service a line, no comments.
BASES = $(B)/image/main.cf $(B)/image/master.cf
$(B)/image/main.cf: postfix/main.cf image/main.cf
$(B)/image/master.cf: postfix/master.cf postfix/master-spawn.cf image/master.cf
$(BASES):
	@mkdir -p $(@D)
	sed '/^#/d; /^$$/d' $^ | sed -z 's/\n*[ \t]\+/ /g; s/ \n/\n/g' > $@

$(B)/fuzz/fuzz_entry: $(ENTRY_PARTS:%=$(B)/fuzz/%.o) $(BASES)
$(B)/fuzz/fuzz_entry: FUZZED = $(PARTS) $(ENTRY_PARTS)
$(B)/fuzz/fuzz_entry: LIBS += $(ENTRY_LIBS)
$(B)/fuzz/fuzz_entry: DEFINES += -DBASES='"$(B)/image/"'

image-programs: swiftdrop-entry swiftdrop.static $(BASES)
	install -D -m 755 swiftdrop-entry $(DESTDIR)/usr/sbin/swiftdrop-entry
	install -D -m 755 swiftdrop.static $(DESTDIR)/usr/sbin/swiftdrop
	install -D -m 644 -t $(DESTDIR)/usr/share/swiftdrop $(BASES)

# Its sources are read by the lint of tests/tests.mk, its tests are run with
# the others.
SOURCES += image/swiftdrop-entry.c $(ENTRY_PARTS:=.c)
HEADERS += $(wildcard image/*.h)

# swiftdrop: plain make, GNU make 4.
#
# make            builds ./swiftdrop
# make check      all tests; installs what they need (Debian)
# make demo       watch a mail go from SMTP into a real Swift
# make lint unit san system   the parts of check
# make check-long valgrind coverage   what takes longer
# make bench instructions   what a mail costs
# make load       100,000 mails at once, each accounted for
# make fuzz fuzz-coverage    hostile input, and how far it gets
# make static     builds ./swiftdrop.static, its libraries from archives
# make image lines install uninstall dist release clean
#
# make install STATIC=yes installs ./swiftdrop.static as swiftdrop.

VERSION = 0.2.0

prefix = /usr
exec_prefix = $(prefix)
bindir = $(exec_prefix)/bin
sbindir = $(exec_prefix)/sbin
datarootdir = $(prefix)/share
datadir = $(datarootdir)
mandir = $(datarootdir)/man
man1dir = $(mandir)/man1
man5dir = $(mandir)/man5
man8dir = $(mandir)/man8
docdir = $(datarootdir)/doc/swiftdrop
sysconfdir = /etc
# What systemd reads is beside it, whatever the prefix of the rest.
unitdir = /usr/lib/systemd/system
catalogdir = /usr/lib/systemd/catalog
sysusersdir = /usr/lib/sysusers.d
bashcompdir = $(datadir)/bash-completion/completions
# Debian's for what is installed; elsewhere it is $(datadir)/zsh/site-functions.
zshcompdir = $(datadir)/zsh/vendor-completions

CC = gcc
CLANG = clang
INSTALL = install
PYTHON = /usr/bin/python3
PKG_CONFIG = pkg-config
SECONDS = 60

# Probed, never assumed: a compiler may not know a flag.
try = $(shell $(1) -Werror $(2) -E -x c /dev/null >/dev/null 2>&1 && echo '$(2)')

CFLAGS = -O2 -g
HARDEN := -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fPIE -fno-common \
	-fno-strict-overflow -fno-delete-null-pointer-checks \
	$(call try,$(CC),-fstack-protector-strong) \
	$(call try,$(CC),-fstack-clash-protection) \
	$(call try,$(CC),-fcf-protection) \
	$(call try,$(CC),-ftrivial-auto-var-init=zero) \
	$(call try,$(CC),-fzero-call-used-regs=used-gpr)
LDHARDEN = -pie -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code,--as-needed
DEFINES = -std=c17 -D_GNU_SOURCE -DVERSION='"$(VERSION)"' -I. -Ilib

WARN = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion \
	-Wstrict-prototypes -Wold-style-definition -Wmissing-prototypes \
	-Wmissing-declarations -Wredundant-decls -Wnested-externs \
	-Wpointer-arith -Wcast-qual -Wwrite-strings -Wundef -Wunused-macros \
	-Wvla -Walloca -Wformat=2 -Wnull-dereference -Wimplicit-fallthrough \
	-Wswitch-enum -Wdate-time -Wframe-larger-than=8192
WARN_GCC = -Wcast-align=strict -Wformat-signedness -Wformat-overflow=2 \
	-Wformat-truncation=2 -Wstringop-overflow=4 -Wduplicated-cond \
	-Wduplicated-branches -Wlogical-op -Wjump-misses-init \
	-Warray-bounds=2 -Wuse-after-free=3 -Wbidi-chars=any \
	-Wsuggest-attribute=format
WARN_CLANG = -Wcomma -Wextra-semi-stmt -Wassign-enum \
	-Wconditional-uninitialized -Wmissing-variable-declarations \
	-Wunreachable-code-aggressive -Wdocumentation
SANITIZE = -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all \
	-fno-omit-frame-pointer -U_FORTIFY_SOURCE

# Everything but main(), so that tests can link it. libsystemd is loaded, by
# swiftdrop.c, where systemd passes a socket.
LIB = address buf clock digest file http ini log message reply route \
	statsd stream text
PARTS = $(LIB:%=lib/%) check config deliver inject object scan session smtp swift
LIBS = $(shell $(PKG_CONFIG) --libs libcurl libssl libcrypto jansson)
SOURCES = $(PARTS:=.c) swiftdrop.c
HEADERS = $(wildcard *.h lib/*.h)
FUZZERS = $(patsubst tests/%.c,%,$(wildcard tests/fuzz_*.c))

# Sanitizer builds and plain ones never share an object.
B = build
OBJECTS = $(PARTS:%=$(B)/%.o)
COMPILE = $(CC) $(CFLAGS) $(CPPFLAGS) $(HARDEN) $(DEFINES) -MMD -MP

all: swiftdrop

help:
	@sed -n '/^$$/q; s/^# \{0,1\}//p' Makefile

swiftdrop $(B)/swiftdrop: $(B)/swiftdrop.o $(OBJECTS)
	$(CC) $(CFLAGS) $(HARDEN) $(LDHARDEN) $(LDFLAGS) -o $@ $^ $(LIBS)

$(B)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(COMPILE) -Wall -Wextra -c -o $@ $<

# The same with its libraries from archives, libcurl a small one of its own.
# libc is not among them: names are looked up as the host does it.
static: swiftdrop.static

CURL = $(B)/curl
CURL_A = $(CURL)/install/lib/libcurl.a
# Of Debian 13 on, libcrypto compresses, too.
OPENSSL_A = -l:libssl.a -l:libcrypto.a $(patsubst -l%,-l:lib%.a,\
	$(filter -lz -lzstd,$(shell $(PKG_CONFIG) --static --libs libcrypto)))
ARCHIVES = $(OPENSSL_A) -l:libjansson.a

swiftdrop.static: $(B)/static/swiftdrop.o $(PARTS:%=$(B)/static/%.o) $(CURL_A)
	$(CC) $(CFLAGS) $(HARDEN) $(LDHARDEN) $(LDFLAGS) -o $@ $^ $(ARCHIVES)

# Anew when Debian's source has a fix: make clean first.
$(CURL_A): image/build-curl
	image/build-curl $(CURL) > $(B)/curl.log 2>&1 || \
		{ tail -n 30 $(B)/curl.log; exit 1; }

$(B)/static/%.o: %.c Makefile $(CURL_A)
	@mkdir -p $(@D)
	$(COMPILE) -I$(CURL)/install/include -DSTATIC_LIBRARIES -c -o $@ $<

# ---- demonstration --------------------------------------------------------

demo:
	@tests/install build lab postfix demo $(if $(filter 3,$(AUTH)),keystone)
	@$(MAKE) -s swiftdrop
	@demo/demo $(if $(AUTH),--auth $(AUTH)) $(if $(ONCE),--once) \
		$(if $(SWIFT_PORT),--swift-port $(SWIFT_PORT))

# The recording that README shows.
record: swiftdrop
	tests/install lab postfix demo
	demo/record doc/demo.svg demo/demo --once

# ---- measurements ---------------------------------------------------------

# Writes bench/results.json and from it RESULTS.md, its drawings and what
# README.md says of the cost.
bench:
	tests/install build bench keystone lab postfix rspamd static
	$(MAKE) -s all static $(addprefix $(B)/,greet put put.static sink store)
	$(SUDO) bench/run
	bench/report

# Many mails at once, honest ones beside floods: bench/load.json, LOAD.md.
load:
	tests/install build bench lab postfix static systemd
	$(MAKE) -s all static $(B)/store
	$(SUDO) bench/load $(ROWS)

# The image's size, start and memory; into its README.
bench-image:
	tests/install image lab postfix
	bench/image image/README.md

# Floods against the shipped Postfix; into README.
floods: swiftdrop
	tests/install lab postfix demo
	bench/floods README.md

# Instructions of a session, against bench/baseline.json; baseline accepts
# what they are now.
instructions baseline:
	tests/install build lab static unit
	$(MAKE) all static $(B)/store
	bench/instructions $(if $(filter baseline,$@),--accept)

STORE_OBJECTS = $(B)/lib/digest.o $(B)/lib/buf.o $(B)/lib/text.o

$(B)/store: bench/store.c $(STORE_OBJECTS) Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(DEFINES) $(WARN) -o $@ $< $(STORE_OBJECTS) \
		-lpthread -lcrypto

$(B)/sink: bench/sink.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(DEFINES) $(WARN) -static -o $@ $<

$(B)/put: bench/put.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(CPPFLAGS) $(HARDEN) $(DEFINES) $(WARN) -o $@ $< \
		$(LDHARDEN) $(LDFLAGS) $(shell $(PKG_CONFIG) --libs libcurl)

$(B)/put.static: bench/put.c Makefile $(CURL_A)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(CPPFLAGS) $(HARDEN) $(DEFINES) $(WARN) \
		-I$(CURL)/install/include -o $@ $< $(CURL_A) $(LDHARDEN) \
		$(LDFLAGS) $(OPENSSL_A)

$(B)/greet: bench/greet.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(DEFINES) $(WARN) -static -o $@ $<

# ---- fuzzing --------------------------------------------------------------

fuzz:
	tests/install build fuzz
	$(MAKE) $(FUZZERS:%=$(B)/fuzz/%)
	tests/run-fuzzers $(if $(RECORD),--record) $(SECONDS) $(JOBS) \
		$(FUZZERS:%=$(B)/fuzz/%)

# What a target is linked with.
FUZZED = $(PARTS)

$(B)/fuzz/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CLANG) $(SANITIZE) -fsanitize=fuzzer-no-link $(DEFINES) -MMD -MP \
		-c -o $@ $<

$(B)/fuzz/fuzz_%: tests/fuzz_%.c $(PARTS:%=$(B)/fuzz/%.o)
	$(CLANG) $(SANITIZE) -fsanitize=fuzzer $(DEFINES) -MMD -MP -o $@ $< \
		$(FUZZED:%=$(B)/fuzz/%.o) $(LIBS)

# ---- installation ---------------------------------------------------------

UNIT_FILES = swiftdrop.socket swiftdrop@.service swiftdrop-check.service \
	swiftdrop-check.timer swiftdrop-login.service swiftdrop-login.timer \
	swiftdrop-report@.service \
	swiftq-run@.service swiftq-recover@.service swiftq-recover@.timer \
	swiftq-purge@.service swiftq-purge@.timer

# swiftq's modules are of use for swiftq alone: none of them is where every
# Python program would find it.
SWIFTQ = $(wildcard swiftq/*.py)

# $(call install_unit,FILE,FOLDER): with the paths of the programs. The empty
# line ends the recipe's.
define install_unit
	sed 's,/usr/sbin/,$(sbindir)/,; s,/usr/bin/,$(bindir)/,' units/$(1) \
		> $(DESTDIR)$(2)/$(1)
	chmod 644 $(DESTDIR)$(2)/$(1)

endef

PROGRAM = swiftdrop$(if $(filter yes,$(STATIC)),.static)

install: all $(PROGRAM)
	$(INSTALL) -d $(DESTDIR)$(sbindir) $(DESTDIR)$(man5dir) \
		$(DESTDIR)$(man8dir) $(DESTDIR)$(docdir)
	$(INSTALL) -m 755 $(PROGRAM) $(DESTDIR)$(sbindir)/swiftdrop
	$(INSTALL) -m 644 doc/swiftdrop.8 $(DESTDIR)$(man8dir)/swiftdrop.8
	$(INSTALL) -m 644 doc/swiftdrop.ini.5 $(DESTDIR)$(man5dir)/swiftdrop.ini.5
	$(INSTALL) -d $(DESTDIR)$(bindir) $(DESTDIR)$(man1dir) \
		$(DESTDIR)$(datadir)/swiftdrop/swiftq
	$(INSTALL) -m 644 $(SWIFTQ) $(DESTDIR)$(datadir)/swiftdrop/swiftq
	sed 's,@datadir@,$(datadir),' swiftq/swiftq.in \
		> $(DESTDIR)$(bindir)/swiftq
	chmod 755 $(DESTDIR)$(bindir)/swiftq
	$(INSTALL) -m 644 doc/swiftq.1 $(DESTDIR)$(man1dir)/swiftq.1
	$(INSTALL) -d $(DESTDIR)$(bashcompdir) $(DESTDIR)$(zshcompdir)
	$(INSTALL) -m 644 completions/swiftdrop.bash \
		$(DESTDIR)$(bashcompdir)/swiftdrop
	ln -sf swiftdrop $(DESTDIR)$(bashcompdir)/swiftq
	$(INSTALL) -m 644 completions/_swiftdrop $(DESTDIR)$(zshcompdir)
	$(INSTALL) -m 644 README.md NEWS doc/OPERATING.md doc/ELSEWHERE.md \
		doc/MTAS.md doc/swiftdrop.ini.example $(DESTDIR)$(docdir)
	$(INSTALL) -d $(DESTDIR)$(docdir)/examples
	$(INSTALL) -m 644 examples/README.md examples/statsd_exporter.yml \
		examples/grafana.json $(DESTDIR)$(docdir)/examples
	$(INSTALL) -m 755 examples/take-mail.py $(DESTDIR)$(docdir)/examples
	$(INSTALL) -d $(DESTDIR)$(docdir)/postfix
	$(INSTALL) -m 644 postfix/* $(DESTDIR)$(docdir)/postfix
	$(INSTALL) -d $(DESTDIR)$(unitdir) $(DESTDIR)$(catalogdir) \
		$(DESTDIR)$(sysusersdir) $(DESTDIR)$(docdir)/units
	$(foreach u,$(UNIT_FILES),$(call install_unit,$(u),$(unitdir)))
	$(call install_unit,hardened.conf,$(docdir)/units)
	$(INSTALL) -m 644 doc/swiftdrop.catalog $(DESTDIR)$(catalogdir)
	$(INSTALL) -m 644 units/swiftdrop.sysusers \
		$(DESTDIR)$(sysusersdir)/swiftdrop.conf
	$(INSTALL) -m 644 units/README.md units/loopback.conf \
		$(DESTDIR)$(docdir)/units

uninstall:
	rm -f $(DESTDIR)$(sbindir)/swiftdrop $(DESTDIR)$(bindir)/swiftq \
		$(DESTDIR)$(man1dir)/swiftq.1 \
		$(DESTDIR)$(man8dir)/swiftdrop.8 \
		$(DESTDIR)$(man5dir)/swiftdrop.ini.5 \
		$(UNIT_FILES:%=$(DESTDIR)$(unitdir)/%) \
		$(DESTDIR)$(catalogdir)/swiftdrop.catalog \
		$(DESTDIR)$(sysusersdir)/swiftdrop.conf \
		$(DESTDIR)$(bashcompdir)/swiftdrop \
		$(DESTDIR)$(bashcompdir)/swiftq \
		$(DESTDIR)$(zshcompdir)/_swiftdrop
	rm -rf $(DESTDIR)$(docdir) $(DESTDIR)$(datadir)/swiftdrop

# The same octets for the same commit.
DIST = swiftdrop-$(VERSION).tar.gz
dist:
	git -c tar.umask=0022 archive --prefix=swiftdrop-$(VERSION)/ HEAD | \
		gzip -9n > $(DIST)

# What is published; see doc/RELEASING.md.
release:
	tests/install build debian release
	PODMAN='$(PODMAN)' BASE='$(BASE)' SOURCE='$(SOURCE)' ROOTS='$(ROOTS)' \
		release/build $(B)/release

clean:
	rm -rf $(B) swiftdrop swiftdrop.static swiftdrop-entry $(DIST)

# Code without blank lines and comments, headers included.
lines:
	@for part in "filter *.[ch] lib/*.[ch]" "image image/*.[ch]"; do \
		set -- $$part; name=$$1; shift; \
		printf '%s %d\n' "$$name" "$$(cat "$$@" | \
			$(CC) -fpreprocessed -dD -E -P -x c - 2>/dev/null | \
			grep -c .)"; done

# Objects are kept between runs; each knows the headers that it read.
.SECONDARY:
-include $(shell find $(B) -name curl -prune -o -name '*.d' -print 2>/dev/null)

include image/image.mk
# The image is built without them.
-include tests/tests.mk

.PHONY: all help static instructions baseline fuzz bench bench-image load floods demo record install uninstall dist release clean lines

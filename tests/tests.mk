# SPDX-License-Identifier: GPL-3.0-or-later
#
# The tests; a part of the Makefile at the top of the tree, which says what
# there is (PARTS, SOURCES, HEADERS, OBJECTS; image/image.mk: ENTRY_*) and how
# it is built (COMPILE, DEFINES, HARDEN, WARN*, SANITIZE, LIBS).

UNITS = $(patsubst tests/%.c,%,$(wildcard tests/unit_*.c))
JOBS = $(shell nproc)
# Most system tests wait for a server, a timer or a process.
WORKERS = $(shell expr 2 '*' $$(nproc))

# What the parts found: the reports that tests/summary adds up.
REPORT = $(B)/report

# Postfix, systemd and containers are started by root alone.
SUDO = $(if $(filter 0,$(shell id -u)),,sudo)
PYTEST = env PYTHONDONTWRITEBYTECODE=1 $(PYTHON) -m pytest -q \
	-n $(WORKERS) --dist loadfile
# Not when this make is itself told how many jobs it may run.
PARALLEL = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS) --output-sync)

# The last line is how many passed and failed, also when a part fails; those
# that leave no report say so by this.
failed = { mkdir -p $(REPORT)/$(1); echo '== status' > $(REPORT)/$(1)/make.log; \
	false; }

check: check-deps
	@rm -rf $(REPORT)
	@{ $(MAKE) $(PARALLEL) lint programs || $(call failed,lint); } && \
		$(MAKE) unit && \
		{ $(MAKE) fuzz-coverage || $(call failed,fuzz-coverage); } && \
		$(MAKE) san && $(MAKE) system; \
		status=$$?; tests/summary $(REPORT); exit $$status

# What tests/install gets for them, a group for each kind of test.
SYSTEM_GROUPS = build static unit system lab keystone ceph postfix systemd debian \
	swiftq image model filters fronts mtas rspamd statsd release arm64

check-deps:
	tests/install lint fuzz $(SYSTEM_GROUPS)

# The same on another Debian release, such as trixie; CHECK_TARGET are the parts
# that are wanted of it. Its root is kept outside of the tree, which tests copy.
RELEASE ?=
CHECK_TARGET = check
CHECK_ROOTS = /var/cache/swiftdrop-tests

check-in:
	@test -n '$(RELEASE)' || { echo 'make check-in RELEASE=trixie'; exit 64; }
	tests/install roots
	env -u MAKEFLAGS -u MAKELEVEL $(SUDO) tests/check-in $(CHECK_ROOTS) $(RELEASE) \
		$(CHECK_TARGET)

# What check has no time for: valgrind, each allocation, long tests, the fuzzers.
check-long:
	tests/install $(SYSTEM_GROUPS) fuzz docker
	$(MAKE) valgrind
	$(MAKE) memory
	$(MAKE) long
	$(MAKE) model
	$(MAKE) torture
	$(MAKE) fuzz

# Everything that the parts of check run.
programs: all static $(B)/store $(B)/failmalloc.so unit-programs san-programs
unit-programs: $(UNITS:%=$(B)/%)
san-programs: $(UNITS:%=$(B)/san/%) $(B)/san/swiftdrop

unit: unit-programs
	tests/run-units $(REPORT)/unit $(UNITS:%=$(B)/%)

valgrind: unit-programs
	WRAPPER="valgrind -q --error-exitcode=99 --leak-check=full" \
		tests/run-units $(REPORT)/valgrind $(UNITS:%=$(B)/%)

# The same tests again under ASan and UBSan, and the session by the system
# tests that drive it through pipes and sockets.
SAN_TESTS = $(addprefix tests/system/test_,session.py replies.py inject.py \
	config.py scan.py)

san: san-programs
	tests/run-units $(REPORT)/san $(UNITS:%=$(B)/san/%)
	SWIFTDROP_BINARY=$(B)/san/swiftdrop $(PYTEST) \
		--junitxml=$(REPORT)/san.xml -m 'not slow' $(SAN_TESTS)

system: all static $(B)/store $(B)/failmalloc.so
	$(SUDO) $(PYTEST) --junitxml=$(REPORT)/system.xml \
		tests/system

# Those that are left out there.
long: all
	$(SUDO) $(PYTEST) -m long --junitxml=$(REPORT)/long.xml tests/system

# The same with each allocation that can fail, not one in a hundred.
memory: all $(B)/failmalloc.so
	SWIFTDROP_STRIDE=1 $(PYTEST) --junitxml=$(REPORT)/memory.xml \
		tests/system/test_memory.py

# The model of the commitment with as many tries as there are by default.
model:
	tests/install build system model
	SWIFTDROP_TRIES=3 $(PYTHON) -m pytest -v -s tests/system/test_model.py

# States of the model, and what the corpus reaches, into RESULTS.md.
proven:
	tests/proven

# Mail while everything around fails; a seed repeats the plan, RECORD=yes adds
# the run to tests/torture/RESULTS.md.
MINUTES = 10
torture: all $(B)/failcalls.so $(B)/san/swiftdrop
	tests/install build unit lint system lab keystone postfix rspamd systemd
	$(SUDO) env PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=tests $(PYTHON) \
		-m torture --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) \
		--sanitized $(B)/san/swiftdrop $(if $(RECORD),--record)

# Another machine: cross-built with Debian's libraries for it, and run by qemu.
# They are kept outside of the tree, which tests copy: there are devices in it.
arm64: all
	tests/install build system lab arm64
	$(SUDO) $(PYTEST) tests/system/test_arm64.py

ARM64 = $(B)/arm64
ARM64_ROOT = $(CHECK_ROOTS)/arm64
ARM64_LIBRARIES = libc6-dev,libcmocka-dev,libcurl4-openssl-dev,libicu-dev,$\
	libjansson-dev,libssl-dev,libsystemd-dev

$(ARM64_ROOT):
	@mkdir -p $(@D)
	rm -rf $@.new
	. /etc/os-release && mmdebstrap --variant=extract --arch=arm64 \
		--include=$(ARM64_LIBRARIES) "$$VERSION_CODENAME" $@.new
	[ -e $@.new/lib ] || ln -s usr/lib $@.new/lib
	mv $@.new $@

arm64-programs: $(ARM64_ROOT)
	$(MAKE) B=$(ARM64) \
		CC='aarch64-linux-gnu-gcc --sysroot=$(abspath $(ARM64_ROOT))' \
		PKG_CONFIG='env PKG_CONFIG_SYSROOT_DIR=$(abspath $(ARM64_ROOT)) \
		PKG_CONFIG_LIBDIR=$(abspath $(ARM64_ROOT))/usr/lib/aarch64-linux-gnu/pkgconfig:$(abspath $(ARM64_ROOT))/usr/share/pkgconfig \
		pkg-config' \
		$(ARM64)/swiftdrop $(ARM64)/swiftdrop-entry $(UNITS:%=$(ARM64)/%)

# What is preloaded.
$(B)/failmalloc.so: tests/failmalloc.c
$(B)/failcalls.so: tests/torture/failcalls.c
$(B)/%.so:
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(DEFINES) $(WARN) -fPIC -shared -o $@ $<

$(B)/unit_%: tests/unit_%.c $(OBJECTS)
	$(COMPILE) $(WARN) -o $@ $< $(OBJECTS) $(LDHARDEN) -lcmocka $(LIBS)

# What our own files call, not libraries; each allocation fails once.
$(B)/unit_memory $(B)/san/unit_memory $(B)/unit_entry $(B)/san/unit_entry \
		$(B)/unit_log $(B)/san/unit_log: \
	LIBS += -Wl,--wrap=malloc,--wrap=calloc,--wrap=reallocarray \
		-Wl,--wrap=strdup,--wrap=strndup
$(B)/unit_memory $(B)/san/unit_memory: LIBS += -Wl,--wrap=free

$(B)/unit_entry: tests/unit_entry.c $(ENTRY_OBJECTS) $(OBJECTS)
	$(COMPILE) $(WARN) -o $@ $< $(ENTRY_OBJECTS) $(OBJECTS) $(LDHARDEN) \
		-lcmocka $(LIBS) $(ENTRY_LIBS)

$(B)/san/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CLANG) $(SANITIZE) $(DEFINES) -MMD -MP -c -o $@ $<

$(B)/san/swiftdrop: $(B)/san/swiftdrop.o $(PARTS:%=$(B)/san/%.o)
	$(CLANG) $(SANITIZE) -o $@ $^ $(LIBS)

$(B)/san/unit_%: tests/unit_%.c $(PARTS:%=$(B)/san/%.o)
	$(CLANG) $(SANITIZE) $(DEFINES) -MMD -MP -o $@ $< \
		$(PARTS:%=$(B)/san/%.o) -lcmocka $(LIBS)

$(B)/san/unit_entry: tests/unit_entry.c $(ENTRY_PARTS:%=$(B)/san/%.o) \
		$(PARTS:%=$(B)/san/%.o)
	$(CLANG) $(SANITIZE) $(DEFINES) -MMD -MP -o $@ $< \
		$(ENTRY_PARTS:%=$(B)/san/%.o) $(PARTS:%=$(B)/san/%.o) \
		-lcmocka $(LIBS) $(ENTRY_LIBS)

# ---- coverage -------------------------------------------------------------

# Lines and branches of the filter and of image/ that the unit tests and the
# system tests reach, by a build of its own. Not counted: the filter of the
# package and of the image, which those build for themselves, and what ends by
# a signal. Sessions run as other users count too: the files are there for all.
COVERAGE = $(B)/coverage

coverage:
	tests/install $(SYSTEM_GROUPS) coverage
	$(MAKE) all static $(B)/store
	$(MAKE) coverage-run B=$(COVERAGE) HARDEN= CFLAGS='-O0 -g --coverage' \
		LDFLAGS='-Wl,--wrap=_exit $(COVERAGE)/tests/coverage.o'

coverage-run: $(B)/tests/coverage.o
	$(MAKE) $(B)/swiftdrop $(B)/swiftdrop-entry unit-programs
	find $(B) -name '*.gcda' -delete
	find $(B) -name '*.gcno' | sed 's/gcno$$/gcda/' | \
		xargs sh -c 'touch "$$@" && chmod 666 "$$@"' sh
	-tests/run-units $(REPORT)/unit $(UNITS:%=$(B)/%)
	-$(SUDO) env SWIFTDROP_BINARY=$(abspath $(B)/swiftdrop) \
		SWIFTDROP_COVERAGE=$(abspath $(B)) $(PYTEST) tests/system
	gcovr -r . --object-directory $(B) -e tests/ --csv $(B)/coverage.csv $(B)
	@awk -F, -f tests/coverage.awk $(B)/coverage.csv

# What the corpus of the fuzz targets alone reaches of all that reads what others
# wrote: by file, and not below these numbers.
FUZZ_READERS = $(addprefix lib/,address buf http ini message reply route stream \
	text) config inject scan smtp swift
FUZZ_READERS += $(addprefix image/,agree environment postconf settings table)
FUZZ_LINES = 95
FUZZ_BRANCHES = 85

fuzz-coverage:
	tests/install build fuzz
	$(MAKE) $(PARALLEL) fuzz-coverage-run B=$(B)/fuzz-coverage \
		SANITIZE='-O0 -g -fprofile-instr-generate -fcoverage-mapping'

fuzz-coverage-run: $(FUZZERS:%=$(B)/fuzz/%)
	rm -f $(B)/*.profraw
	@set -e; for f in $(FUZZERS); do \
		LLVM_PROFILE_FILE=$(B)/$$f.profraw $(B)/fuzz/$$f -runs=0 \
			-artifact_prefix=$(B)/ tests/corpus/$${f#fuzz_} \
			> $(B)/$$f.log 2>&1 || \
			{ tail -n 30 $(B)/$$f.log; exit 1; }; done
	@llvm-profdata merge -o $(B)/profile $(FUZZERS:%=$(B)/%.profraw)
	@llvm-cov report $(B)/fuzz/$(firstword $(FUZZERS)) \
		-show-branch-summary -instr-profile=$(B)/profile \
		$(patsubst %,-object %,$(FUZZERS:%=$(B)/fuzz/%)) \
		$(FUZZ_READERS:=.c) | awk -v lines=$(FUZZ_LINES) \
		-v branches=$(FUZZ_BRANCHES) -f tests/fuzz-coverage.awk

# ---- lint -----------------------------------------------------------------

LINT_C = $(sort $(SOURCES) $(wildcard tests/*.c tests/*/*.c bench/*.c))
LINT_TREE = $(sort $(SOURCES) $(HEADERS))
LINT_MAN = $(wildcard doc/*.[158])

# A stamp for what was found to be well, so that only what has changed is read
# again: gcc's depends on the headers as gcc lists them, the others on gcc's.
STAMP = $(B)/lint
LINT_RULES = Makefile tests/tests.mk

# What an analyser takes for a fault, and where clang-format breaks a line,
# differs by version: the code is held to those of Debian 12.
ANALYSERS = lint-analyzer lint-cppcheck lint-tidy lint-format
CODENAME := $(shell . /etc/os-release; echo $$VERSION_CODENAME)

lint: lint-gcc lint-clang lint-headers lint-man lint-python lint-shell musl \
	$(if $(filter bookworm,$(CODENAME)),$(ANALYSERS),lint-elsewhere)

lint-elsewhere:
	@echo 'not run here but on Debian 12: $(ANALYSERS)'

lint-gcc: $(LINT_C:%=$(STAMP)/%.gcc)
lint-clang: $(LINT_C:%=$(STAMP)/%.clang)
lint-analyzer: $(SOURCES:%=$(STAMP)/%.analyzer)
lint-tidy: $(SOURCES:%=$(STAMP)/%.tidy)
lint-cppcheck: $(STAMP)/cppcheck
lint-format: $(STAMP)/format
lint-headers: $(HEADERS:%=$(STAMP)/%.alone)
lint-man: $(STAMP)/man
lint-python:
	@$(PYTHON) -m pyflakes swiftq examples demo/demo demo/record tests \
		bench/*.py bench/floods bench/image bench/instructions \
		bench/load bench/report bench/run bench/units

# The other libc of Linux: what filter and image say to it compiles, no more
# than that. The libraries' headers are those of here.
musl: $(SOURCES:%=$(STAMP)/%.musl)

MUSL = $(B)/musl
MUSL_LIBRARIES = curl jansson.h jansson_config.h openssl systemd unicode \
	linux asm asm-generic

$(MUSL):
	@mkdir -p $@/0 $@/1
	@cd $@/0 && for name in $(MUSL_LIBRARIES); do \
		ln -sf /usr/include/$$name .; done
	@cd $@/1 && for name in $(MUSL_LIBRARIES); do \
		ln -sf /usr/include/$(shell $(CC) -print-multiarch)/$$name .; done

$(STAMP)/%.musl: % $(STAMP)/%.gcc | $(MUSL)
	@musl-gcc -O1 -Werror -Wall -Wextra $(DEFINES) \
		-idirafter $(MUSL)/0 -idirafter $(MUSL)/1 -c -o /dev/null $<
	@touch $@

lint-shell:
	@shellcheck completions/swiftdrop.bash
	@shellcheck -e SC1091,SC2016 image/sbom release/build

$(STAMP)/%.gcc: % $(LINT_RULES)
	@mkdir -p $(@D)
	@$(CC) -O2 -Werror $(DEFINES) $(WARN) $(WARN_GCC) -MMD -MP -MT $@ \
		-MF $@.d -c -o /dev/null $<
	@touch $@

$(STAMP)/%.clang: % $(STAMP)/%.gcc
	@$(CLANG) -O1 -Werror $(DEFINES) $(WARN) $(WARN_CLANG) -c -o /dev/null $<
	@touch $@

# Version 12 takes memory that is stored in an array's element for lost; leaks
# are clang-tidy's and the sanitizers' to find.
$(STAMP)/%.analyzer: % $(STAMP)/%.gcc
	@$(CC) -O2 -Werror -fanalyzer -Wno-analyzer-malloc-leak $(DEFINES) \
		-c -o /dev/null $<
	@touch $@

$(STAMP)/%.tidy: % $(STAMP)/%.gcc .clang-tidy
	@clang-tidy --quiet $< -- $(DEFINES) 2>/dev/null || \
		{ clang-tidy --quiet $< -- $(DEFINES); exit 1; }
	@touch $@

# All at once, as it looks from one file into the next.
$(STAMP)/cppcheck: $(SOURCES:%=$(STAMP)/%.gcc)
	@cppcheck -q --std=c17 --enable=warning,style,performance,portability \
		--suppress=missingIncludeSystem --suppress=variableScope \
		--suppress=constParameter --inline-suppr --error-exitcode=1 \
		-DVERSION='"$(VERSION)"' -I. -Ilib $(sort $(SOURCES))
	@touch $@

$(STAMP)/format: $(LINT_TREE) .clang-format
	@mkdir -p $(@D)
	@clang-format --dry-run -Werror $(LINT_TREE)
	@touch $@

$(STAMP)/%.alone: % $(LINT_RULES)
	@mkdir -p $(@D)
	@$(CC) -Werror $(DEFINES) -Wall -Wextra -MMD -MP -MT $@ -MF $@.d \
		-x c -c -o /dev/null $<
	@touch $@

$(STAMP)/man: $(LINT_MAN)
	@mkdir -p $(@D)
	@set -e; for m in $(LINT_MAN); do \
		test -z "$$(groff -mdoc -ww -z $$m 2>&1 | tee /dev/stderr)"; \
		mandoc -Tlint -W warning $$m; done
	@touch $@

.PHONY: check check-deps check-in check-long programs unit-programs san-programs unit \
	valgrind memory long model proven torture san system coverage coverage-run \
	fuzz-coverage fuzz-coverage-run lint lint-gcc lint-clang lint-analyzer \
	lint-cppcheck lint-tidy lint-format lint-headers lint-man lint-python \
	lint-shell lint-elsewhere musl arm64 arm64-programs

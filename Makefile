.POSIX:

# One after the other, whatever -j says: make -j deps test installs first.
.NOTPARALLEL:

# What the user may set: make CC=clang CFLAGS='-O3 -g' PREFIX=/usr
CC = cc
CFLAGS = -O2
CPPFLAGS =
LDFLAGS =
LDLIBS =
PREFIX = /usr/local
MANPREFIX = $(PREFIX)/share/man
DESTDIR =
SECS = 60
ROUNDS = 5
SUITES =

SCRIPTS = test/run test/deps test/tools/coverage test/tools/examples \
	test/tools/incidents test/tools/machines test/tools/memcheck \
	test/tools/mutants test/tools/newcomer test/tools/outages \
	test/tools/prove test/tools/reconnects test/tools/restarts \
	test/tools/soak test/tools/torture test/tools/router.sh \
	test/bench/bench

SIM = test/sim/main.c test/sim/run.c test/sim/log.c test/sim/promise.c \
	test/sim/wait.c test/sim/calls.c test/sim/clients.c \
	test/sim/network.c test/sim/world.c test/sim/stream.c \
	test/sim/dice.c test/sim/disk.c
# In the simulation the program is compiled into these.
PLAYED = test/sim/program.c test/sim/again.c test/sim/bsd.c

# What the project asks of its own code, whatever CFLAGS are.  The numbers in
# FD_SET are of mixed signs in musl, FreeBSD, illumos and uClibc.
WARNINGS = -std=c99 -pedantic -Wall -Wextra -Wshadow -Wconversion \
	-Wno-sign-conversion -Wstrict-prototypes -Wmissing-prototypes
SMALL = -Os -fomit-frame-pointer -ffunction-sections -fdata-sections \
	-fno-asynchronous-unwind-tables -fno-unwind-tables
STATIC = -static -s -Wl,--gc-sections
TIDY = bugprone-*,cert-*,clang-analyzer-*,$(TIDY_WITHOUT)
# What is left out of clang-tidy: feature macros are reserved names by nature;
# two numbers side by side are what functions here take; a message that can't
# be written has nobody to be told; Annex K exists almost nowhere.
TIDY_WITHOUT = -bugprone-reserved-identifier,-cert-dcl37-c,-cert-dcl51-cpp, \
	-bugprone-easily-swappable-parameters,-cert-err33-c, \
	-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling

# Build the bridge.
all: tcpbridge

tcpbridge: tcpbridge.c
	$(CC) $(WARNINGS) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) \
	    -o $@ tcpbridge.c $(LDLIBS)

# Build tcpbridge-static, one small file that needs no library: CC=musl-gcc.
static: tcpbridge-static

tcpbridge-static: tcpbridge.c
	$(CC) $(WARNINGS) $(CPPFLAGS) $(SMALL) $(LDFLAGS) $(STATIC) \
	    -o $@ tcpbridge.c $(LDLIBS)

# Install the program and its manual under DESTDIR.
install: tcpbridge
	mkdir -p $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(MANPREFIX)/man1
	cp tcpbridge $(DESTDIR)$(PREFIX)/bin/tcpbridge.new
	chmod 755 $(DESTDIR)$(PREFIX)/bin/tcpbridge.new
	mv -f $(DESTDIR)$(PREFIX)/bin/tcpbridge.new \
	    $(DESTDIR)$(PREFIX)/bin/tcpbridge
	cp tcpbridge.1 $(DESTDIR)$(MANPREFIX)/man1/tcpbridge.1
	chmod 644 $(DESTDIR)$(MANPREFIX)/man1/tcpbridge.1

# Remove what install put there.
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/tcpbridge \
	    $(DESTDIR)$(MANPREFIX)/man1/tcpbridge.1

# Remove what was built.
clean:
	rm -f tcpbridge tcpbridge-static test/sim/sim

# Install what the tests need: shunit2, socat, nc.
deps:
	@sh test/deps

# Run the tests: all, or make test SUITES='forward orphan' TESTS=test_x.
test: tcpbridge
	@sh test/run $(SUITES)

# Run random drops, reconnects and bursts for SECS seconds.
soak: tcpbridge
	@sh test/tools/soak $(SECS)

# Check all sources with static tools.
lint:
	@missing=; for tool in shellcheck mandoc cppcheck clang-tidy gcc; do \
	    command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	    test -z "$$missing" || \
	    { echo "lint: not installed:$$missing" >&2; exit 1; }
	shellcheck -x $(SCRIPTS) test/*.sh .ci/run
	mandoc -T lint -W warning tcpbridge.1
	cppcheck --quiet --std=c99 --enable=warning,portability,performance \
	    --inline-suppr --error-exitcode=1 tcpbridge.c test/tools/*.c \
	    $(SIM)
	@for file in tcpbridge.c test/tools/*.c $(SIM); do \
	    echo "clang-tidy, gcc -fanalyzer: $$file"; \
	    clang-tidy --quiet --warnings-as-errors='*' --checks='$(TIDY)' \
	    "$$file" -- -std=c99 && gcc $(WARNINGS) -Wsign-conversion -Werror \
	    -O1 -fanalyzer -c -o /dev/null "$$file" || exit 1; done

# Run the program in a simulated world for 20 seconds; seeds from the date.
sim: test/sim/sim
	test/sim/sim -t 20 -s $$(date +%y%m%d%H%M%S)

test/sim/sim: $(SIM) $(PLAYED) test/sim/sim.h test/sim/program.h test/sim/calls.h \
		tcpbridge.c
	$(CC) $(WARNINGS) $(CPPFLAGS) -O2 -o $@ $(SIM) $(PLAYED) -lm

# Plant bugs one at a time; a test or the simulation has to catch each.
mutants:
	@sh test/tools/mutants

# Prove the ring functions with Frama-C.
prove:
	@sh test/tools/prove

# Make every system call fail, once and for ever.
torture: tcpbridge
	@sh test/tools/torture

# Cut line, power and programs of a device, and count its lines.
outages: tcpbridge
	@sh test/tools/outages

# Stop and start the bridge under clients that dial again; no byte is lost.
restarts: tcpbridge
	@sh test/tools/restarts

# Build and test for every compiler, processor and shell there is.
machines:
	@sh test/tools/machines

# Count the lines that suites and simulation run.
coverage:
	@sh test/tools/coverage

# Run suites under valgrind.
memcheck:
	@sh test/tools/memcheck

# Run every example of README and manual.
examples: tcpbridge
	@sh test/tools/examples

# Make incidents happen, and ask the log alone what they were.
incidents: tcpbridge
	@sh test/tools/incidents

# Build, run and test it in a fresh Debian, as root and as a user.
newcomer:
	@sh test/tools/newcomer

# Measure against what else could do the job: make bench ROUNDS=n PLOT=file.
bench: tcpbridge
	@ROUNDS=$(ROUNDS) sh test/bench/bench

.PHONY: all static install uninstall clean deps test soak lint sim mutants \
	prove torture machines coverage memcheck examples incidents newcomer \
	bench outages restarts

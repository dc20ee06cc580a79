#!/bin/sh
#
# The name of a bridge (-n), which is in every line, and the system's log (-s).
. "${0%/*}/lib.sh"

# assert_named TEXT: asserts that each line has that right after its level.
assert_named()
{
	wait_log 'event=ready' || return
	wrong=$(grep -v -F -e "Z level=info $1 event=" \
	    -e "Z level=warn $1 event=" -e "Z level=debug $1 event=" "$log")
	assertNull "not named $1: $wrong" "$wrong"
}

test_the_name_is_in_every_line_after_the_level()
{
	bridge_start -v -n pump-7 -b 4 -A 127.0.0.1 -B 10.0.0.0/8
	client_open A || return
	client_dial B
	client_say A 'too long'
	client_ends B
	totals_ask
	client_close A
	bridge_stop
	assert_named 'name=pump-7'
	for event in listen ready connect refuse drop stats disconnect stop; do
		wait_log " event=$event "
	done
}

test_a_name_is_quoted_where_it_must_be()
{
	bridge_start -n 'two words'
	assert_named 'name="two words"'
	bridge_start -n 'a=b'
	assert_named 'name="a=b"'
	bridge_start -n 'plain-_.:/@1'
	assert_named 'name=plain-_.:/@1'
	log_check
}

# They would have to be escaped in the log, and otherwise in the metrics; two
# lines, or a colour, would be a way to forge the log.
test_a_name_that_would_need_an_escape_is_a_usage_error()
{
	for name in 'say "hi"' 'o\/' "$(printf 'a\nlevel=error')" \
	    "$(printf 'a\033[31mb')" "$(printf 'a\tb')" "$(printf 'a\177')"; do
		bridge_run -n "$name" 127.0.0.1:0 127.0.0.1:0
		assert_refuses 2 '-n: not 1 to 64 bytes without quote, '
		! grep -q "$(printf '[\001-\011\013-\037\177]')" "$work/stderr"
		assertTrue 'control characters' $?
	done
}

# The first and the last character of each length, and those around the ones
# that UTF-8 has not (RFC 3629).
test_a_name_may_be_any_utf_8()
{
	for name in 'Käse' 'насос-7' '水泵' '\302\241' '\337\277' \
	    '\340\240\200' '\355\237\277' '\356\200\200' '\357\277\277' \
	    '\360\220\200\200' '\364\217\277\277'; do
		# shellcheck disable=SC2059 # it is a format
		name=x$(printf "$name")
		bridge_start -n "$name"
		assert_named "name=$name"
	done
}

test_a_name_that_is_no_utf_8_is_a_usage_error()
{
	for name in '\200' '\277' 'caf\351' 'caf\351s' '\303' '\303(' \
	    '\342\202' '\342\202x' '\360\237\233' '\300\257' '\301\277' \
	    '\340\237\277' '\355\240\200' '\355\277\277' \
	    '\360\217\277\277' '\364\220\200\200' '\365\200\200\200' '\377'
	do
		# shellcheck disable=SC2059 # it is a format
		bridge_run -n "$(printf "$name")" 127.0.0.1:0 127.0.0.1:0
		assert_refuses 2 '-n: not UTF-8: ' || echo "    for: $name"
	done
}

test_a_name_has_at_most_64_bytes()
{
	long=$(printf '%064d' 7)
	wide=$(printf '%032d' 0 | sed 's/0/ä/g')
	for name in "$long" "$wide"; do
		bridge_start -n "$name"
		assert_named "name=$name"
		bridge_run -n "x$name" 127.0.0.1:0 127.0.0.1:0
		assert_refuses 2 '-n: not 1 to 64 bytes'
	done
}

test_without_the_option_no_line_has_a_name()
{
	bridge_start
	client_open A || return
	client_close A
	bridge_stop
	refute_log ' name='
}

test_an_empty_name_is_a_usage_error()
{
	bridge_run -n '' 127.0.0.1:0 127.0.0.1:0
	assert_refuses 2 '-n: ' "''"
}

# ---- -s ----

# What the log gets is "<priority>date ident[pid]: event=...", and the priority is
# 8 times the facility, 3 for a daemon, and the severity: 3 error, 4 warning,
# 5 notice (what was asked for), 6 info.
error=27
warning=28
notice=29
info=30

# need_syslog: gives the next bridge a /dev of its own, with a listener in the
# place of the system's log.
need_syslog()
{
	mkdir -p "$work/dev"
	rm -f "$work/dev/log" "$work/syslog"
	need_apart "$work/dev" || return
	bridge_under=$apart
	# shellcheck disable=SC2034,SC2016 # it is for lib.sh, which evaluates it
	undo='end_process "$syslogd"'
	syslogd_start
}

syslogd_start()
{
	socat -u "UNIX-RECV:$work/dev/log" "OPEN:$work/syslog,creat,append" &
	syslogd=$!
	wait_until 5 test -S "$work/dev/log"
}

syslogd_end()
{
	end_process "$syslogd"
	rm -f "$work/dev/log"
}

# syslog_start [OPTIONS]: starts a bridge that logs there.
syslog_start()
{
	free_ports
	bridge_launch -s "$@" -- "$host:$port_A" "$host:$port_B"
	wait_syslog "$notice>.*event=ready state=IDLE pid=$bridge_pid "
}

# syslog_has PATTERN: tells whether a line of it is just that; the datagrams
# come without an end of line, each with the only < at its beginning.
syslog_has()
{
	tr '<' '\n' <"$work/syslog" | grep -q -e "^$1"
}

wait_syslog()
{
	wait_until 5 syslog_has "$1"
	met=$?
	assertTrue "no '$1' in: $(cat "$work/syslog")" "$met"
}

test_syslog_gets_every_event_and_standard_error_none()
{
	need_syslog || return 0
	syslog_start || return
	client_dial A
	wait_syslog "$info>.* event=connect side=A session=1 peer=127"
	client_close A
	wait_syslog "$info>.* event=disconnect side=A session=1 .* state=IDLE\$"
	bridge_stop
	wait_syslog "$notice>.* event=stop signal=SIGTERM lost=0\$"
	assertEquals 'bytes on standard error' 0 "$(size "$log")"
}

test_syslog_lines_have_the_ident_and_neither_time_nor_level()
{
	need_syslog || return 0
	syslog_start || return
	bridge_stop
	wait_syslog "$notice>[A-Z][a-z]* *[0-9]* [0-9:]* tcpbridge\[[0-9]*\]: event=stop signal=SIGTERM lost=0\$"
	syslog_has '.*\(time\|level\)='
	assertFalse 'time or level' $?
}

test_syslog_warnings_have_their_severity()
{
	need_syslog || return 0
	syslog_start -b 4 || return
	client_dial A
	client_say A 'too long'
	wait_syslog "$warning>.* event=drop dir=A->B session=1 reason=overflow bytes=8 "
	syslog_has "$info>.* event=drop"
	assertFalse 'also as info' $?
}

# An error also goes where the user looks who typed the command.
test_syslog_is_told_why_the_bridge_can_not_start()
{
	need_syslog || return 0
	TCPBRIDGE="$bridge_under $TCPBRIDGE"
	bridge_run -s 192.0.2.1:0 "$host:0"
	TCPBRIDGE=${TCPBRIDGE#"$bridge_under "}
	assert_refuses 1 192.0.2.1:0
	wait_syslog "$error>.* tcpbridge\[[0-9]*\]: side A: 192\.0\.2\.1:0: "
}

test_syslog_has_the_name_as_ident()
{
	need_syslog || return 0
	syslog_start -n pump-7 || return
	wait_syslog "$notice>.* pump-7\[[0-9]*\]: name=pump-7 event=ready"
	syslog_has '.* tcpbridge'
	assertFalse 'also as tcpbridge' $?
}

test_syslog_under_quiet_gets_no_info()
{
	need_syslog || return 0
	blind_start -qs -b 4 || return
	client_dial A
	client_say A 'too long'
	wait_syslog "$warning>.* event=drop"
	syslog_has "$info>"
	assertFalse 'info lines' $?
}

test_syslog_that_is_not_there_yet_gets_what_comes_later()
{
	need_syslog || return 0
	syslogd_end
	blind_start -s || return
	wait_log '^tcpbridge: -s: /dev/log: .*; lines are lost until a syslogd listens there$'
	assertEquals 'lines on standard error' 1 "$(log_count .)"
	: >"$log"		# it is no line of the log
	syslogd_start
	client_dial A
	wait_syslog "$warning>.* event=log_lost lines=[1-9][0-9]*\$"
	wait_syslog "$info>.* event=connect side=A session=3 "
}

# What it does not take is lost, and nobody waits for it.
test_syslog_that_hangs_stalls_nothing()
{
	need_peer && need_syslog || return 0
	syslog_start || return
	client_dial B
	wait_syslog "$info>.* event=connect side=B"
	kill -STOP "$syslogd"
	"$PEER" burst "$port_A" 300 100 >"$work/sent"
	client_hears_file B "$work/sent"
	kill -CONT "$syslogd"
	client_dial A
	client_say A 'and then'
	wait_syslog "$warning>.* event=log_lost lines=[1-9][0-9]*\$"
	wait_syslog "$info>.* event=connect side=A session=302 "
}

test_syslog_that_is_started_again_misses_nothing()
{
	need_syslog || return 0
	syslog_start || return
	syslogd_end
	syslogd_start
	client_dial A
	wait_syslog "$info>.* event=connect side=A session=1 "
	client_close A
	wait_syslog "$info>.* event=disconnect side=A session=1 "
	syslog_has '.* event=log_lost'
	assertFalse 'lines were lost' $?
}

# ---- the journal ----

# id_of FILE: prints its device and inode.
id_of()
{
	stat -c %d:%i "$1" 2>/dev/null || stat -f %d:%i "$1"
}

test_each_line_in_the_journal_begins_with_its_level()
{
	need stat || return 0
	: >"$work/journal"
	bridge_before="exec 2>>'$work/journal'
	    JOURNAL_STREAM=$(id_of "$work/journal"); export JOURNAL_STREAM"
	blind_start -v -b 4 || return
	client_dial A
	client_say A 'too long'
	wait_until 10 grep -q event=drop "$work/journal"
	bridge_stop
	wrong=$(grep -v -e '^<4>time=[^ ]* level=warn event=' \
	    -e '^<5>time=[^ ]* level=info event=ready ' \
	    -e '^<6>time=[^ ]* level=info event=' \
	    -e '^<5>time=[^ ]* level=info event=stop ' \
	    -e '^<7>time=[^ ]* level=debug event=' "$work/journal")
	assertNull "without its level: $wrong" "$wrong"
	grep -q '^<4>.* event=drop ' "$work/journal"
	assertTrue 'no warning' $?
}

# Who is started by a service, but not with its standard error.
test_what_is_not_the_journal_has_no_levels()
{
	need stat || return 0
	: >"$work/other"
	for id in "$(id_of "$work/other")" 1 '' :; do
		bridge_before="JOURNAL_STREAM=$id; export JOURNAL_STREAM"
		bridge_start
		refute_log '^<'
	done
}

# shellcheck source=/dev/null
. "$SHUNIT2"

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
	need_linux && need_root && need_native && need unshare || return 1
	mkdir -p "$work/dev"
	rm -f "$work/dev/log" "$work/syslog"
	# shellcheck disable=SC2016 # another shell's words
	echo 'mount --bind "$1" /dev && shift && exec "$@"' >"$work/apart"
	bridge_under="unshare -m sh $work/apart $work/dev"
	$bridge_under true 2>"$work/apart.err" ||
	    { skip "no /dev of its own: $(cat "$work/apart.err")" || return; }
	socat -u "UNIX-RECV:$work/dev/log" "OPEN:$work/syslog,creat" &
	# shellcheck disable=SC2034 # it is for lib.sh
	undo="end_process $!"
	wait_until 5 test -S "$work/dev/log"
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

# shellcheck source=/dev/null
. "$SHUNIT2"

#!/bin/sh
#
# What an unkind parent, system or peer does to it must not end the bridge,
# stall it, or put a byte into a stream.
. "${0%/*}/lib.sh"

# it_works: asserts that two new clients hear each other, and nothing else.
it_works()
{
	client_dial A
	client_dial B
	client_say A 'from A'
	client_hears B 'from A'
	client_say B 'from B'
	client_hears A 'from B'
}

test_closed_standard_descriptors_are_not_used_for_clients()
{
	for closed in '<&- >&- 2>&-' '<&-' '>&-' '2>&-' '<&- >&-' '>&- 2>&-'; do
		bridge_before="exec $closed"
		blind_start || return
		it_works
	done
}

test_closed_standard_descriptors_become_dev_null()
{
	need_proc && need_native || return 0
	bridge_before='exec <&- >&- 2>&-'
	blind_start || return
	for fd in 0 1 2; do
		assertEquals "descriptor $fd" /dev/null \
		    "$(readlink "/proc/$bridge_pid/fd/$fd")"
	done
}

test_listeners_past_the_reach_of_select_end_it()
{
	need_peer && need_descriptors 1200 || return 0
	bridge_before='ulimit -n 1200'
	bridge_under="$PEER inherit 1100"
	bridge_launch
	bridge_ends 1
	assertEquals 'lines' 1 "$(log_count '^tcpbridge: ')"
}

test_clients_past_the_reach_of_select_are_refused()
{
	need_peer && need_native && need_descriptors 1200 || return 0
	bridge_before='ulimit -n 1200'
	bridge_under="$PEER inherit 1021"
	for s in A B; do
		bridge_start
		client_dial "$s"
		wait_log "level=warn event=refuse side=$s peer=127.* reason=limit count=1"
		client_ends "$s"
		assert_idle
	done
}

need_descriptors()
{
	# shellcheck disable=SC3045 # every shell has it
	(ulimit -n "$1") 2>/dev/null || skip "no $1 descriptors allowed"
}

# With room for one client, the other side's has to wait for it to go.
test_without_descriptors_it_rests_and_goes_on_later()
{
	need_native || return 0
	bridge_before='ulimit -n 6'
	for s in A B; do
		face "$s"
		bridge_start
		client_open "$side" || return
		client_dial "$other"
		client_say "$other" 'patience'
		wait_log 'level=warn '
		assert_idle
		assertTrue 'too many warnings' "[ $(log_count 'level=warn ') -le 2 ]"
		client_close "$side"
		wait_log "event=connect side=$other"
		wait_total 8 held "$back"
	done
}

# log_through COMMAND: makes the next bridge's standard error a FIFO that the
# command reads into the log.
log_through()
{
	rm -f "$work/pipe"
	mkfifo "$work/pipe"
	"$@" <"$work/pipe" >>"$log" &
	reader=$!
	# shellcheck disable=SC2089 # it is evaluated
	bridge_before="exec 2>'$work/pipe'"
}

# unread_log: has 1500 clients come and go at $side while the reader of the
# log is stopped; asserts that the other side hears them all the same, and
# that the bridge tells of lost lines when the reader goes on.
unread_log()
{
	client_open "$other" || return
	kill -STOP "$reader"
	visits=1500
	"$PEER" burst "$(port "$side")" $visits 100 >"$work/sent"
	client_hears_file "$other" "$work/sent"
	kill -CONT "$reader"
	wait_until 10 loss_told
	assertTrue 'no line tells of those that were lost' $?
}

# A line comes first when there is room again, so one more client comes.
loss_told()
{
	"$PEER" burst "$(port "$side")" 1 100
	visits=$((visits + 1))
	sleep "$nap"
	grep -q 'level=warn .*event=log_lost lines=[1-9]' "$log"
}

test_a_log_that_nobody_reads_does_not_stall_it()
{
	need_peer || return 0
	for s in A B; do
		face "$s"
		log_through cat
		bridge_start
		unread_log
		bridge_stop
		end_process "$reader"
	done
}

test_no_line_is_lost_without_being_counted()
{
	need_peer || return 0
	face A
	log_through cat
	bridge_start
	unread_log
	wait_until 10 all_told
	assertTrue "lines seen or counted of $visits clients: $told" $?
	bridge_stop
	end_process "$reader"
}

# Two lines for each client were written, or are counted as lost.
all_told()
{
	told=$(awk '/side=A session=/ { n++ }
	    /event=log_lost/ { sub(/.*lines=/, ""); n += $0 }
	    END { print n }' "$log")
	[ "$told" -eq $((2 * visits)) ]
}

test_a_log_whose_reader_is_gone_does_not_end_it()
{
	log_through cat
	bridge_start
	end_process "$reader"
	it_works
	client_kill A
	client_kill B
	it_works
	is_alive "$bridge_pid"
	assertTrue 'it is gone' $?
}

# stopped_terminal: has the bridge log to a terminal that nobody reads.
stopped_terminal()
{
	face A
	terminal_make "$log"
	reader=$terminal
	bridge_before="exec 2>'$work/tty'"
	bridge_start -n "$(printf '%064d' 0)" || return
	unread_log
}

test_a_stopped_terminal_does_not_stall_it()
{
	need_peer && need_linux || return 0
	stopped_terminal
	bridge_stop
	end_process "$reader"
}

# It can't open that terminal anew, so it shares it with others, and must not
# leave it non-blocking for them.
test_a_stopped_terminal_of_another_user_does_not_stall_it()
{
	need_peer && need_linux && need_user || return 0
	undo="TCPBRIDGE='$TCPBRIDGE'"
	chmod 755 "$work"
	cp "$TCPBRIDGE" "$work/copy" && chmod 755 "$work/copy"
	TCPBRIDGE=$work/copy
	bridge_under=$as_user
	stopped_terminal
	standard_error_blocks
	bridge_stop
	end_process "$reader"
}

test_a_stopped_terminal_without_a_name_does_not_stall_it()
{
	mkdir "$work/dev"
	need_peer && need_apart "$work/dev" || return 0
	bridge_under=$apart
	stopped_terminal
	standard_error_blocks
	bridge_stop
	end_process "$reader"
}

standard_error_blocks()
{
	case $(awk '/^flags/ { print $2 }' "/proc/$bridge_pid/fdinfo/2") in
	*[4567]???) fail 'standard error was left non-blocking' ;;
	esac
}

# The log is a file that may not grow past one or two kilobytes.
test_a_log_at_its_limit_does_not_end_the_bridge()
{
	need_peer || return 0
	bridge_before='ulimit -f 2'
	bridge_start && client_open B || return
	"$PEER" burst "$(port A)" 50 100 >"$work/sent"
	client_hears_file B "$work/sent"
	is_alive "$bridge_pid"
	assertTrue 'the bridge is gone' $?
	bridge_kill		# a line is cut, as it should be
}

test_a_full_disk_under_the_log_does_not_stall_it()
{
	[ -c /dev/full ] || { skip 'no /dev/full'; return 0; }
	bridge_before='exec 2>/dev/full'
	blind_start || return
	it_works
}

test_its_arguments_stay_as_ps_shows_them()
{
	need_proc && need_native || return 0
	bridge_start -4 -n x -m '*:0' -A 127.0.0.0/8 -- 127.0.0.1:0 '*:0'
	assertContains "$(tr '\0' ' ' <"/proc/$bridge_pid/cmdline")" \
	    ' -4 -n x -m *:0 -A 127.0.0.0/8 -- 127.0.0.1:0 *:0 '
}

test_it_does_not_change_what_it_shares_with_its_parent()
{
	need_proc && need_linux && need_native || return 0
	log_through cat
	pair_start || return
	for fd in 0 1 2; do
		flags=$(awk '/^flags/ { print $2 }' "/proc/$bridge_pid/fdinfo/$fd")
		case $flags in
		*[4567]???) flags=O_NONBLOCK ;;
		esac
		assertNotEquals "descriptor $fd" O_NONBLOCK "$flags"
	done
	bridge_stop
	end_process "$reader"
}

test_its_sockets_are_not_passed_on_and_never_block()
{
	need_proc && need_linux && need_native || return 0
	pair_start || return
	sockets=0
	for fd in /proc/"$bridge_pid"/fd/*; do
		case $(readlink "$fd") in
		socket:*) ;;
		*) continue ;;
		esac
		sockets=$((sockets + 1))
		case $(awk '/^flags/ { print $2 }' \
		    "/proc/$bridge_pid/fdinfo/${fd##*/}") in
		*[2367]??[4567]???) ;;
		*) fail "${fd##*/} blocks or is passed on" ;;
		esac
	done
	assertEquals 'sockets' 4 "$sockets"
}

test_a_storm_of_signals_disturbs_no_stream()
{
	make_bytes "$work/much" 20000000
	pair_start || return
	client_feed A "$work/much"
	client_feed B "$work/much"
	signals=0
	while [ $signals -lt 300 ]; do
		kill -USR1 "$bridge_pid"
		kill -CONT "$bridge_pid"
		signals=$((signals + 1))
	done
	client_hears_file B "$work/much"
	client_hears_file A "$work/much"
}

test_nohup_protects_it_from_hangup()
{
	need nohup || return 0
	bridge_under='nohup'
	bridge_start
	kill -HUP "$bridge_pid"
	client_open A && client_open B || return
	client_say A 'still here'
	client_hears B 'still here'
}

test_a_peer_already_reset_when_accepted_is_served_and_told()
{
	need_peer && need_linux || return 0
	for s in A B; do
		face "$s"
		bridge_start
		client_open "$other" || return
		bridge_freeze
		"$PEER" slam "$(port "$side")" 'too late'
		bridge_thaw
		client_hears "$other" 'too late'
		wait_log "event=disconnect side=$side session=2 peer=127\.0\.0\.1:[0-9]* reason=reset"
		client_stays "$other"
	done
}

test_an_urgent_byte_stays_in_its_place()
{
	need_peer || return 0
	for s in A B; do
		face "$s"
		bridge_start
		client_open "$other" || return
		"$PEER" oob "$(port "$side")" &
		urgent=$!
		client_hears "$other" 'abcde'
		end_process "$urgent"
	done
}

# Writing to a connection that was reset raises SIGPIPE.
test_a_stream_survives_the_deaths_of_its_readers()
{
	for s in A B; do
		face "$s"
		bridge_start -v
		bridge_busy=yes
		client_open "$side" || return
		client_feed "$side" /dev/zero
		for death in one two three four five; do
			client_open "$other" $death linger=0 || return
			wait_until 5 test -s "$work/$death.got"
			client_reset $death
		done
		client_lost "$other" 5
		client_stays "$side"
	done
}

test_reconnects_cost_no_descriptors()
{
	need_peer && need_proc || return 0
	bridge_start -v
	"$PEER" burst "$port_A" 10 100 >/dev/null
	wait_count 10 'event=disconnect side=A'
	before=$(descriptors)
	"$PEER" burst "$port_A" 500 100 >/dev/null
	"$PEER" burst "$port_B" 500 100 >/dev/null
	wait_count 510 'event=disconnect side=A'
	wait_count 500 'event=disconnect side=B'
	assertEquals 'descriptors' "$before" "$(descriptors)"
}

# shellcheck source=/dev/null
. "$SHUNIT2"

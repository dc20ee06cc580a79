#!/bin/sh
#
# A stop.  From the signal on a dial is refused, so that who dials keeps its
# data, and the next bridge can have the ports.  What had arrived before is
# passed on within 2 seconds, or it is told as lost.
. "${0%/*}/lib.sh"

# a_moment: waits until the bridge has had the tenth of a second that a stop may
# take to begin: that much of a processor, or less if it sleeps before, for a
# signal wakes it.  Another program's use of the processors does not count.
a_moment()
{
	cpu_ticks "$bridge_pid" || return
	moment_ends=$((ticks + 10))
	wait_until 10 has_had_its_moment
}

has_had_its_moment()
{
	cpu_ticks "$bridge_pid" || return 0
	[ "${stat%% *}" = S ] || [ "$ticks" -ge "$moment_ends" ]
}

# stop_at_once: stops it without its 2 seconds.
stop_at_once()
{
	tell TERM "$bridge_pid"
	tell HUP "$bridge_pid"
	bridge_ends 0
}

# lingers_open SIDE: opens a client that stays after it got EOF.  It makes each
# stop take the whole 2 seconds.
lingers_open()
{
	client_wait=60
	client_open "$1"
	lingers=$?
	client_wait=0.5
	return $lingers
}

# stop_then_freeze: sends the signal, and freezes the bridge a moment later.  So
# what is seen then was done in that time, however slow this machine is.
stop_then_freeze()
{
	tell TERM "$bridge_pid"
	a_moment
	bridge_freeze
}

# dial_works SIDE: tells whether the system completes a connection there.
dial_works()
{
	socat -u OPEN:/dev/null "TCP:$host:$(port "$1")" 2>/dev/null
}

both_refuse()
{
	! dial_works A && ! dial_works B
}

# is_prompt: tells whether a stop that takes long refused dials in time.
is_prompt()
{
	bridge_start && lingers_open A || return
	stop_then_freeze
	both_refuse
}

test_a_dial_is_refused_within_a_tenth_of_a_second()
{
	need_proc && need_native || return 0
	is_prompt
	assertTrue 'dials are accepted after the signal' $? || return
	is_alive "$bridge_pid"
	assertTrue 'the bridge has ended' $?
	bridge_kill
}

test_a_second_bridge_can_bind_the_ports_while_the_first_one_stops()
{
	need_proc && need_native || return 0
	is_prompt || { fail 'the stop does not begin'; return; }
	$TCPBRIDGE -- "$host:$port_A" "$host:$port_B" 2>"$work/second" &
	second=$!
	wait_until 10 grep -q event=ready "$work/second"
	assertTrue "$(cat "$work/second")" $?
	end_process "$second"
	is_alive "$bridge_pid"
	assertTrue 'the first one has ended' $?
	bridge_kill
}

# A trace keeps the bridge so busy that something is always ready, and Linux
# then lets no signal in by itself.
test_traffic_does_not_delay_it()
{
	need_proc && need_native || return 0
	bridge_busy=yes
	late=0
	for try in 1 2 3 4; do
		pair_start -x -b 1m || return
		client_feed A /dev/zero
		client_feed B /dev/zero
		wait_until 10 heard_something A
		sleep "0.$((try * 2))" 2>/dev/null
		stop_then_freeze
		both_refuse || late=$((late + 1))
		bridge_kill
	done
	assertEquals 'stops that were late' 0 "$late"
}

heard_something()
{
	[ -s "$work/$1.got" ]
}

# arrived SIDE: prints how many bytes the system has for the bridge from a
# client of that side that it does not read.
arrived()
{
	ss -tnH src "$host:$(port "$1")" | awk '{ sum += $2 } END { print sum + 0 }'
}

# full_socket: the bridge is frozen, and $side sends until nothing more goes;
# sets $acked to the bytes that the system took and acknowledged.
full_socket()
{
	make_bytes "$work/much" 8000000
	bridge_freeze
	client_feed "$side" "$work/much"
	acked=-1
	wait_until 20 arrived_all
	assertTrue "$acked bytes arrived" "[ $acked -gt 10000 ]"
}

arrived_all()
{
	acked_before=$acked
	acked=$(arrived "$side")
	[ "$acked" -gt 10000 ] && [ "$acked" -eq "$acked_before" ]
}

# stop_frozen: stops a bridge that is frozen, which goes on then.
stop_frozen()
{
	tell TERM "$bridge_pid"
	bridge_thaw
	bridge_ends 0
}

test_what_had_arrived_is_passed_on()
{
	need_linux && need_native && need ss || return 0
	for s in A B; do
		face "$s"
		pair_start || return
		full_socket || return
		stop_frozen
		got=$(size "$work/$other.got")
		assertTrue "$got of $acked bytes" "[ $got -ge $acked ]"
		head -c "$got" "$work/much" >"$work/expected"
		assert_same_bytes 'what came' "$work/expected" \
		    "$work/$other.got"
		log_check
	done
}

test_what_had_arrived_and_is_not_passed_on_is_told()
{
	need_linux && need_native && need ss || return 0
	bridge_start -l -b 50k && client_open A || return
	client_open B B rcvbuf=2048 && client_freeze B || return
	full_socket || return
	stop_frozen
	lost=$(log_value lost event=stop)
	told=$(($(total sent 'A->B') + $(total dropped 'A->B') + ${lost:-0}))
	assertTrue "$told of $acked bytes" "[ $told -ge $acked ]"
	log_check
}

# The system completes a connection, and acknowledges what comes, before the
# bridge knows of it.
test_what_had_arrived_from_a_client_not_accepted_yet_is_passed_on()
{
	need_linux && need_native && need ss || return 0
	for s in A B; do
		face "$s"
		bridge_start && client_open "$other" || return
		bridge_freeze
		client_dial "$side"
		client_say "$side" 'just in time'
		client_waits "$side" 12
		stop_frozen
		client_hears "$other" 'just in time'
	done
}

test_it_tells_how_much_it_loses()
{
	for s in A B; do
		face "$s"
		bridge_start && client_open "$side" || return
		client_say "$side" 0123456789
		wait_total 10 held "$dir"
		bridge_stop
		assertContains "$(tail -n 1 "$log")" \
		    ' level=warn event=stop signal=SIGTERM lost=10'
	done
}

# Of 3000 bytes 1024 have room, and the others stay in the socket.
test_it_tells_what_it_had_no_room_for()
{
	need_linux && need ss || return 0
	for s in A B; do
		face "$s"
		bridge_start -l -b 1k && client_open "$side" || return
		client_pour "$side" 3000
		wait_total 1024 held "$dir"
		client_waits "$side" 1976
		stop_at_once
		wait_log 'level=warn event=stop signal=SIG.* lost=3000$'
	done
}

test_it_warns_of_nothing_if_it_loses_nothing()
{
	pair_start || return
	client_say A 'to B'
	client_hears B 'to B'
	client_say B 'to A'
	client_hears A 'to A'
	bridge_stop
	refute_log 'level=warn'
	assertContains "$(tail -n 1 "$log")" \
	    ' level=info event=stop signal=SIGTERM lost=0'
}

test_start_and_stop_are_told_under_q()
{
	pair_start_quietly || return
	bridge_stop
	assertEquals 'lines' 2 "$(log_count .)"
	assertContains "$(head -n 1 "$log")" ' level=info event=ready '
	assertContains "$(tail -n 1 "$log")" \
	    ' level=info event=stop signal=SIGTERM lost=0'
}

# The log tells neither ports nor clients then.
pair_start_quietly()
{
	free_ports
	bridge_launch -q -- "$host:$port_A" "$host:$port_B"
	wait_log event=ready || return
	client_dial A
	client_dial B
	client_say A 'to B'
	client_hears B 'to B'
}

test_a_second_signal_ends_it_at_once()
{
	for s in A B; do
		face "$s"
		stuck_start "$other" || return
		client_pour "$side" 2000000
		tell TERM "$bridge_pid"
		wait_log "event=disconnect side=$side"
		tell TERM "$bridge_pid"
		bridge_ends 0
		took=$(seconds_between "disconnect side=$side" event=stop)
		awk "BEGIN { exit !($took < $PATIENCE) }"
		assertTrue "it went on for $took s" $?
		assertEquals 'lost' "$(total held "$dir")" \
		    "$(log_value lost event=stop)"
	done
}

# seconds_between PATTERN PATTERN: prints the time between the last lines of
# the log that match.
seconds_between()
{
	awk -v first="$1" -v second="$2" '
	function when(clock) {
		split(substr($1, 17), clock, /[:Z]/)
		return clock[1] * 3600 + clock[2] * 60 + clock[3]
	}
	$0 ~ first { from = when() }
	$0 ~ second { to = when() }
	END { took = to - from; print took < 0 ? took + 86400 : took }
	' "$log"
}

# It ends the connection when it pleases; the bridge waits for that.
test_a_client_that_was_sent_all_gets_eof()
{
	bridge_start && lingers_open A && client_open B || return
	client_say A 'all there is'
	client_hears B 'all there is'
	tell TERM "$bridge_pid"
	bridge_ends 0
	wait_count 2 'reason=shutdown'
	early=$(seconds_between 'disconnect side=B' event=stop)
	awk "BEGIN { exit !($early > 0.5) }"
	assertTrue "closed $early s before the end" $?
	client_ends B
}

test_silence_does_not_count_during_a_stop()
{
	bridge_start -i 1.5 && lingers_open B || return
	client_say B 'the last word'
	wait_total 13 received 'B->A'
	tell TERM "$bridge_pid"
	bridge_ends 0
	refute_log cause=idle
	wait_log 'event=disconnect side=B .* reason=shutdown'
}

# The system of a client that hangs acknowledges what has room in its socket.
# That is sent; the rest is lost, to the byte.
test_what_a_client_does_not_acknowledge_is_told()
{
	need_linux && need ss || return 0
	bridge_start && client_open A || return
	client_open B B rcvbuf=2048 || return
	client_freeze B
	client_pour A 20000
	wait_total 20000 received 'A->B'
	tell TERM "$bridge_pid"
	bridge_ends 0
	lost=$(log_value lost event=stop)
	got=$(has_got B)
	assertEquals 'unacked' "$lost" "$(log_value unacked 'disconnect side=B')"
	assertEquals 'bytes in its socket, and lost' 20000 $((got + lost))
}

# has_got SIDE: prints how many bytes the system has for the client there.
has_got()
{
	ss -tnH dst "$host:$(port "$1")" |
	    awk '{ sum += $2 } END { print sum + 0 }'
}

# With -H 0 what a client leaves is dropped.  A line has told of a drop less
# than a second before.
test_what_is_dropped_at_the_end_is_told()
{
	for s in A B; do
		face "$s"
		bridge_start -H 0 && client_open "$side" || return
		client_say "$side" 'too early'
		wait_log "event=drop dir=$dir .* reason=expired bytes=9 "
		client_open "$other" "$other" rcvbuf=2048 || return
		client_freeze "$other"
		client_pour "$side" 20000
		wait_total 20009 received "$dir"
		stop_at_once
		assertEquals 'bytes in drop lines' "$(total dropped "$dir")" \
		    "$(drops_told)"
	done
}

drops_told()
{
	sed -n "s/.*event=drop dir=$dir .* bytes=\([0-9]*\) .*/\1/p" "$log" |
	    awk '{ sum += $1 } END { print sum + 0 }'
}

# shellcheck source=/dev/null
. "$SHUNIT2"

#!/bin/sh
#
# SIGUSR1 tells the totals; SIGTERM, SIGINT and SIGHUP end the bridge, and
# what it holds is delivered first where somebody is there to take it.
. "${0%/*}/lib.sh"

test_usr1_tells_the_totals()
{
	for s in A B; do
		face "$s"
		bridge_start -b 1k
		client_open "$side" || return
		client_say "$side" 'hello'
		wait_total 5 received "$dir"
		assertEquals 'held' 5 "$(total held "$dir")"
		assertEquals 'sent' 0 "$(total sent "$dir")"
		client_open "$other" || return
		wait_total 5 sent "$dir"
		assertEquals 'held' 0 "$(total held "$dir")"
		assertEquals 'received' 0 "$(total received "$back")"
		assertEquals 2 "$(log_value session "event=stats side=$other")"
		assertEquals 1 "$(log_value connects "event=stats side=$side")"
	done
}

test_each_ending_signal_ends_it_with_status_0()
{
	need_peer || return 0
	bridge_under="$PEER plain"
	for signal in TERM INT HUP; do
		pair_start || return
		kill -$signal "$bridge_pid"
		client_ends A
		client_ends B
		bridge_ends 0
		assertContains "$(tail -n 1 "$log")" "event=stop signal=SIG$signal"
		wait_count 2 'reason=shutdown'
		wait_count 2 'event=stats dir='
	done
}

test_an_idle_bridge_ends_at_once()
{
	bridge_start
	client_open A
	client_kill A
	client_lost A
	totals_ask
	bridge_stop
	took=$(log_span event=stats event=stop)
	assertTrue "took $took s" "awk 'BEGIN { exit !($took < 1) }'"
}

# much_waits BYTES: so many have come from $side for $other, which reads nothing.
much_waits()
{
	make_bytes "$work/held" "$1"
	stuck_start "$other" -g 0 -w 0 || return
	client_feed "$side" "$work/held"
	client_fed "$side"
	wait_total "$1" received "$dir"
}

test_what_is_held_is_delivered_before_the_end()
{
	for s in A B; do
		face "$s"
		much_waits 3000000 || return
		kill -TERM "$bridge_pid"
		client_thaw "$other"
		bridge_ends 0
		client_hears_file "$other" "$work/held"
		log_check
	done
}

# Closing with unread input would reset the connection and destroy what is on
# its way to the peer.
test_a_side_that_goes_on_sending_gets_all_that_was_held_for_it()
{
	for s in A B; do
		face "$s"
		much_waits 3000000 || return
		client_thaw "$other"
		client_feed "$other" /dev/zero
		kill -TERM "$bridge_pid"
		bridge_ends 0
		client_hears_file "$other" "$work/held"
	done
}

test_a_side_that_reads_nothing_delays_the_end_by_two_seconds()
{
	for s in A B; do
		face "$s"
		much_waits 8000000 || return
		clock_read
		asked=$clock
		kill -TERM "$bridge_pid"
		bridge_ends 0
		clock_read
		took=$((clock - asked))
		assertTrue "it gave up after $took hundredths" "[ $took -ge 200 ]"
	done
}

test_a_second_signal_ends_it_at_once()
{
	much_waits 8000000 || return
	kill -TERM "$bridge_pid"
	wait_until 5 is_closed
	clock_read
	asked=$clock
	kill -TERM "$bridge_pid"
	wait_until 1 is_dead "$bridge_pid"
	clock_read
	took=$((clock - asked))
	assertTrue "it goes on for $took hundredths" \
	    "[ $took -lt $((100 * PATIENCE)) ]"
	bridge_ends 0
}

test_a_stop_warns_if_it_loses_what_is_held()
{
	for s in A B; do
		face "$s"
		bridge_start
		client_open "$side" || return
		client_close "$side"
		bridge_stop
		refute_log 'level=warn'
		bridge_start
		client_open "$side" || return
		client_say "$side" 0123456789
		wait_total 10 held "$dir"
		bridge_stop
		wait_log "event=stats dir=$dir .* held=10 "
		wait_log 'level=warn event=stop signal=SIGTERM lost=10$'
	done
}

# is_closed: tells whether nobody listens at its ports any more; where that
# can't be seen, after a second.
is_closed()
{
	if [ -r /proc/net/tcp ]; then
		! grep -q ":$(printf %04X "$port_A") 00000000:0000 0A" /proc/net/tcp
	else
		sleep 1
	fi
}

test_nobody_is_accepted_while_it_ends()
{
	much_waits 8000000 || return
	kill -TERM "$bridge_pid"
	wait_until 5 is_closed
	client_dial A late
	client_ends late 1
	is_alive "$bridge_pid"
	assertTrue 'it has ended' $?
	bridge_ends 0
	assertEquals 'connects' 1 "$(log_count 'event=connect side=A')"
}

test_a_signal_ignored_at_the_start_stays_ignored()
{
	for signal in HUP INT TERM; do
		bridge_before="trap '' $signal"
		bridge_start
		kill -$signal "$bridge_pid"
		totals_ask
		refute_log 'event=stop'
		bridge_kill
	done
}

# shellcheck source=/dev/null
. "$SHUNIT2"

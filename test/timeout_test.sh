#!/bin/sh
#
# The idle timeout fires just after its time and not just before, and runs
# only while the side is read; keepalive is set; idleness costs nothing.
. "${0%/*}/lib.sh"

test_idle_a_silent_side_is_closed_in_time_and_not_before()
{
	pair_start -v -i 2 || return
	for s in A B; do
		face "$s"
		assert_timed_out 2 idle
		client_ends "$side"
	done
}

test_idle_a_side_that_speaks_stays()
{
	pair_start -i 3 || return
	for word in one two three four; do
		sleep 1
		client_say A "$word"
		client_say B "$word"
	done
	client_stays A
	client_stays B
	wait_log 'event=disconnect side=A .* reason=timeout cause=idle'
	wait_log 'event=disconnect side=B .* reason=timeout cause=idle'
}

test_idle_is_not_counted_while_a_sender_is_held_back()
{
	for s in A B; do
		face "$s"
		bridge_start -l -b 1k -i 2
		client_open "$side" || return
		client_feed "$side" /dev/zero
		sleep 3
		client_stays "$side"
	done
}

test_without_the_option_a_silent_side_stays()
{
	pair_start -w 1 || return
	sleep 3
	client_stays A
	client_stays B
}

test_keepalive_is_set_as_asked()
{
	need ss && need_linux || return 0
	for s in A B; do
		face "$s"
		bridge_start -k 60
		client_open "$side" || return
		assertContains "$(socket_timer)" 'timer:(keepalive,'
		bridge_start -k 0
		client_open "$side" || return
		socket_timer >"$work/timer"
		assertNotNull 'no such socket' "$(cat "$work/timer")"
		assertNotContains "$(cat "$work/timer")" keepalive
	done
}

# The bridge's socket of that side, as the kernel shows it.
socket_timer()
{
	ss -tnoH state established src "$host:$(port "$side")"
}

test_an_orphan_costs_no_wake_ups()
{
	need_proc || return 0
	for s in A B; do
		face "$s"
		pair_start || return
		client_say "$side" 'hello'
		client_hears "$other" 'hello'
		client_close "$other"
		client_lost "$other"
		assertEquals 'wake-ups' 0 "$(wake_ups)"
	done
}

test_an_idle_pair_costs_no_wake_ups()
{
	need_proc || return 0
	pair_start || return
	client_say A 'hello'
	client_hears B 'hello'
	assertEquals 'wake-ups' 0 "$(wake_ups)"
}

# wake_ups: prints how often the bridge goes to sleep again in 3 seconds,
# after it came to rest.
wake_ups()
{
	sleep 1
	slept=$(naps)
	sleep 3
	echo $(($(naps) - slept))
}

naps()
{
	sed -n 's/^voluntary_ctxt_switches:[^0-9]*//p' "/proc/$bridge_pid/status"
}

# shellcheck source=/dev/null
. "$SHUNIT2"

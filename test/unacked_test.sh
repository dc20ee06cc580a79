#!/bin/sh
#
# What went out and was never acknowledged: a side that acknowledges nothing is
# closed after twice -k and not before, and it is told how much that was.
. "${0%/*}/lib.sh"

# What the kernel took for it is not held, so -w does not see it.
test_a_side_that_acknowledges_nothing_is_closed_after_twice_k()
{
	need_linux || return 0
	for s in A B; do
		face "$s"
		stuck_start "$side" -k 1 || return
		client_pour "$other" 400000
		assert_timed_out 2 keepalive
		client_stays "$other"
	done
}

test_a_side_that_acknowledges_nothing_is_not_closed_before()
{
	head -c 400000 /dev/zero >"$work/poured"
	for s in A B; do
		face "$s"
		stuck_start "$side" -k 3 || return
		client_pour "$other" 400000
		sleep 5
		client_stays "$side"
		client_thaw "$side"
		client_hears_file "$side" "$work/poured"
		client_stays "$side"
	done
}

# 9600 baud and a small buffer: TCP_USER_TIMEOUT would end this one, for its
# window never has room for the whole next segment.
test_a_side_that_reads_slowly_from_a_small_buffer_stays()
{
	need_peer && need_linux || return 0
	for s in A B; do
		face "$s"
		bridge_start -k 2
		client_open "$other" || return
		sipper_open "$side" 48 50 2048
		client_pour "$other" 100000
		sleep 8
		refute_log 'event=disconnect'
	done
}

test_what_was_never_acknowledged_is_told()
{
	need_linux || return 0
	for s in A B; do
		face "$s"
		bridge_start -w 0
		client_open "$other" || return
		client_open "$side" "$side" linger=0 || return
		client_freeze "$side"
		client_pour "$other" 20000000
		wait_total 20000000 received "$back"
		client_reset "$side"
		wait_log "event=disconnect side=$side .* reason=reset"
		lost=$(log_value unacked "event=disconnect side=$side")
		assertTrue "unacked $lost" "[ $lost -gt 0 -a $lost -le 524288 ]"
		wait_total "$lost" unacked "$back"
	done
}

# shellcheck source=/dev/null
. "$SHUNIT2"

#!/bin/sh
#
# The write timeout: a side that takes no byte while data waits for it is
# closed in time and not before.
. "${0%/*}/lib.sh"

# A stopped client's kernel goes on taking bytes for it for a while, so the
# time runs from when it took the last one.
test_write_a_side_that_takes_nothing_is_closed_in_time()
{
	for s in A B; do
		face "$s"
		stuck_start "$side" -v -w 2 || return
		head -c 30000000 /dev/zero >"$work/$other.fifo" &
		assert_timed_out 2 write
		client_stays "$other"
		assertNotEquals 'held' 0 "$(log_value held reason=timeout)"
	done
}

# Its system answers all the while, so it is not the network: also where twice
# -k is no longer than -w, as by default.
test_write_a_stopped_client_is_not_taken_for_a_dead_network()
{
	for s in A B; do
		face "$s"
		stuck_start "$side" -k 1.5 -w 3 || return
		head -c 30000000 /dev/zero >"$work/$other.fifo" &
		assert_timed_out 3 write
	done
}

test_write_a_side_that_takes_nothing_is_not_closed_before()
{
	for s in A B; do
		face "$s"
		stuck_start "$side" -g 0 -w 30 || return
		head -c 30000000 /dev/zero >"$work/$other.fifo" &
		wait_log 'event=drop'
		sleep 1
		client_stays "$side"
		client_thaw "$side"
		wait_total 0 held "$back"
		client_stays "$side"
	done
}

# Its kernel announces room again only after a good part of its buffer was
# read, so for many seconds nothing is accepted, only acknowledged.
test_write_a_side_that_takes_bytes_slowly_stays()
{
	need_peer && need_linux || return 0
	for s in A B; do
		face "$s"
		bridge_start -w 2
		client_open "$other" || return
		sipper_open "$side" 1000 100 4096
		head -c 30000000 /dev/zero >"$work/$other.fifo" &
		sleep 5
		refute_log "event=disconnect"
	done
}

test_write_zero_never_closes()
{
	stuck_start A -w 0 || return
	client_pour B 30000000
	sleep 3
	client_stays A
	client_stays B
}

test_nobody_is_closed_for_time_that_the_bridge_did_not_run()
{
	for s in A B; do
		face "$s"
		stuck_start "$side" -g 0 -i 3 -w 3 || return
		client_pour "$other" 8000000
		wait_log 'event=drop'
		bridge_freeze
		sleep 4
		bridge_thaw
		totals_ask
		client_stays "$side"
		client_stays "$other"
		wait_log "event=disconnect side=$side .* reason=timeout" 8
	done
}

# shellcheck source=/dev/null
. "$SHUNIT2"

#!/bin/sh
#
# What went out and is not acknowledged: a client whose system answers stays,
# however little its program reads; what it had not acknowledged when it goes
# is for the next client.  For clients whose system is silent, see vanish.
. "${0%/*}/lib.sh"

# Its system says that it has no room, so it is not the network.
test_a_side_whose_program_reads_nothing_is_not_silent()
{
	need_linux || return 0
	make_bytes "$work/poured" 400000
	for s in A B; do
		face "$s"
		stuck_start "$side" -k 1 || return
		client_feed "$other" "$work/poured"
		sleep 4
		refute_log event=silent
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
		sleep 6
		refute_log 'event=disconnect'
		refute_log 'event=silent'
	done
}

test_what_was_never_acknowledged_goes_to_the_next_client()
{
	need_linux || return 0
	make_bytes "$work/poured" 2000000
	for s in A B; do
		face "$s"
		bridge_start -w 0 -g 0
		client_open "$other" || return
		client_open "$side" "$side" linger=0 || return
		client_freeze "$side"
		client_feed "$other" "$work/poured"
		wait_total 2000000 received "$back"
		client_reset "$side"
		wait_log "event=disconnect side=$side .* reason=reset"
		client_open "$side" next || return
		acked=$(log_value sent "event=disconnect side=$side")
		lost=$(log_value unacked "event=disconnect side=$side")
		assertTrue "unacked $lost" "[ ${lost:-0} -gt 0 ]"
		wait_total "$lost" unacked "$back"
		tail -c "+$((acked + 1))" "$work/poured" >"$work/rest"
		client_hears_file next "$work/rest"
		wait_total 0 held "$back"
	done
}

# shellcheck source=/dev/null
. "$SHUNIT2"

#!/bin/sh
#
# What went out and is not acknowledged: a side that acknowledges nothing is
# silent after twice -k and not before, and present again when it does; what it
# had not acknowledged when it goes is for the next client.
. "${0%/*}/lib.sh"

# silent_start: $side reads nothing of 400000 bytes, and is found silent.
silent_start()
{
	make_bytes "$work/poured" 400000
	stuck_start "$side" -k 1 || return
	client_feed "$other" "$work/poured"
	wait_log "level=warn event=silent side=$side session=1 peer=127.* unacked=[1-9][0-9]* held=[1-9][0-9]* state=ONLY_$other\$"
}

test_a_side_that_acknowledges_nothing_is_silent_after_twice_k()
{
	need_linux || return 0
	for s in A B; do
		face "$s"
		silent_start || return
		assert_span 2 "event=connect side=$side" 'event=silent'
		wait_total "$(log_value held event=silent)" held "$back"
		client_stays "$side"
		client_stays "$other"
	done
}

test_a_side_that_acknowledges_in_time_is_not_silent()
{
	make_bytes "$work/poured" 400000
	for s in A B; do
		face "$s"
		stuck_start "$side" -k 15 || return
		client_feed "$other" "$work/poured"
		sleep 1
		client_thaw "$side"
		client_hears_file "$side" "$work/poured"
		client_stays "$side"
		refute_log event=silent
	done
}

test_a_silent_side_that_acknowledges_is_present_again_and_gets_all()
{
	need_linux || return 0
	for s in A B; do
		face "$s"
		silent_start || return
		client_thaw "$side"
		wait_log "level=info event=resumed side=$side session=1 peer=127.* silent=[0-9.]* state=PAIRED\$"
		client_hears_file "$side" "$work/poured"
		wait_total 400000 sent "$back"
		client_stays "$side"
	done
}

test_a_silent_side_that_speaks_is_present_again()
{
	need_linux || return 0
	for s in A B; do
		face "$s"
		bridge_start -k 1
		client_with=deaf
		client_open "$side" || return
		client_with=socat
		client_open "$other" || return
		client_pour "$other" 400000
		wait_log "event=silent side=$side "
		client_say "$side" 'I live'
		client_hears "$other" 'I live'
		wait_log "event=resumed side=$side .* state=PAIRED\$"
	done
}

# assert_rest_comes NAME: the next client hears what the one before had not
# acknowledged when it went, and all after it.
assert_rest_comes()
{
	acked=$(log_value sent "event=disconnect side=$side")
	lost=$(log_value unacked "event=disconnect side=$side")
	assertTrue "unacked $lost" "[ ${lost:-0} -gt 0 ]"
	wait_total "$lost" unacked "$back"
	tail -c "+$((acked + 1))" "$work/poured" >"$work/rest"
	client_hears_file "$1" "$work/rest"
	wait_total 0 held "$back"
}

test_a_newcomer_gets_what_a_silent_side_did_not_acknowledge()
{
	need_linux || return 0
	for s in A B; do
		face "$s"
		silent_start || return
		client_open "$side" new || return
		client_lost "$side"
		assert_rest_comes new
	done
}

test_what_is_not_on_its_way_to_a_silent_side_expires()
{
	need_linux || return 0
	make_bytes "$work/poured" 400000
	for s in A B; do
		face "$s"
		stuck_start "$side" -k 1 -H 1 || return
		client_feed "$other" "$work/poured"
		wait_log "event=drop dir=$back .* reason=expired"
		assert_span 1 event=silent event=drop
		client_thaw "$side"
		wait_total 0 held "$back"
		head -c "$(total sent "$back")" "$work/poured" >"$work/heard"
		client_hears_file "$side" "$work/heard"
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
		assert_rest_comes next
	done
}

# shellcheck source=/dev/null
. "$SHUNIT2"

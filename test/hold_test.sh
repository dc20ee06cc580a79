#!/bin/sh
#
# How long bytes are held for an absent side (-H), and how long one whose EOF
# came is still sent to (-e).
. "${0%/*}/lib.sh"

# side_left: $side has been here, and has gone; $other is connected.
side_left()
{
	client_open "$other" && client_open "$side" || return
	client_close "$side"
	client_lost "$side"
}

test_held_bytes_expire_in_time_and_are_counted_as_dropped()
{
	for s in A B; do
		face "$s"
		bridge_start -H 1
		side_left || return
		client_say "$other" '0123456789'
		wait_log "level=warn event=drop dir=$back session=1 reason=expired bytes=10 drops=1 total=10\$"
		assert_span 1 "event=disconnect side=$side" 'event=drop '
		assert_accounted
		assertEquals 'dropped' 10 "$(total dropped "$back")"
		assertEquals 'held' 0 "$(total held "$back")"
		client_stays "$other"
	done
}

test_held_bytes_do_not_expire_before()
{
	for s in A B; do
		face "$s"
		bridge_start -H 30
		side_left || return
		client_say "$other" '0123456789'
		sleep 0.5
		wait_total 10 held "$back"
		client_open "$side" || return
		client_hears "$side" '0123456789'
		refute_log 'event=drop'
	done
}

test_who_comes_after_it_gets_only_what_is_new()
{
	for s in A B; do
		face "$s"
		bridge_start -H 1
		side_left || return
		client_say "$other" 'stale'
		wait_log 'reason=expired'
		client_open "$side" || return
		client_say "$other" 'fresh'
		client_hears "$side" 'fresh'
		assert_accounted
	done
}

test_what_comes_later_than_that_is_not_held_at_all()
{
	for s in A B; do
		face "$s"
		bridge_start -H 1
		client_open "$other" || return
		client_say "$other" 'one'
		wait_log 'reason=expired bytes=3 '
		client_say "$other" 'more'
		wait_total 7 dropped "$back"
		assertEquals 'held' 0 "$(total held "$back")"
		assertEquals 'drops' 2 "$(total drops "$back")"
	done
}

test_zero_holds_nothing_for_an_absent_side()
{
	for s in A B; do
		face "$s"
		bridge_start -H 0
		client_open "$other" || return
		client_say "$other" 'request'
		wait_log "event=drop dir=$back session=1 reason=expired bytes=7 drops=1 total=7\$"
		client_open "$side" || return
		client_say "$other" 'another'
		client_hears "$side" 'another'
		client_say "$side" 'answer'
		client_hears "$other" 'answer'
		assert_accounted
		assertEquals 'dropped' 7 "$(total dropped "$back")"
	done
}

# still_full: tells whether bytes wait, and have not become more for a while.
still_full()
{
	totals_come && waits=$(total held "$back") && sleep 0.3 && totals_come &&
	    [ "$waits" -gt 0 ] && [ "$(total held "$back")" -eq "$waits" ]
}

test_zero_drops_what_waits_when_a_side_goes()
{
	make_bytes "$work/sent" 12000000
	for s in A B; do
		face "$s"
		bridge_start -H 0 -g 60
		client_open "$other" && client_open "$side" || return
		client_freeze "$side"
		client_feed "$other" "$work/sent"
		wait_until 10 still_full
		client_kill "$side"
		wait_log "event=drop dir=$back .*reason=expired"
		wait_total 12000000 received "$back"
		wait_total 0 held "$back"
		client_open "$side" || return
		client_say "$other" 'fresh'
		client_hears "$side" 'fresh'
	done
}

test_zero_loses_nothing_while_a_side_is_connected()
{
	make_bytes "$work/sent" 3000000
	for s in A B; do
		face "$s"
		bridge_start -H 0
		client_open "$other" && client_open "$side" || return
		client_feed "$other" "$work/sent"
		client_hears_file "$side" "$work/sent"
		assert_accounted
		refute_log 'event=drop'
	done
}

test_what_waits_for_a_connected_side_does_not_expire()
{
	make_bytes "$work/sent" 12000000
	for s in A B; do
		face "$s"
		bridge_start -H 1 -w 0 -g 60
		client_open "$other" && client_open "$side" || return
		client_freeze "$side"
		client_feed "$other" "$work/sent"
		sleep 1.2
		totals_ask
		assertNotEquals 'held' 0 "$(total held "$back")"
		client_thaw "$side"
		client_hears_file "$side" "$work/sent"
		refute_log 'event=drop'
	done
}

test_an_expiry_does_not_touch_the_other_direction()
{
	for s in A B; do
		face "$s"
		bridge_start -H 1
		side_left || return
		client_freeze "$other"
		client_open "$side" && client_close "$side" || return
		client_lost "$side" 2
		client_thaw "$other"
		client_say "$other" 'stale'
		wait_log "event=drop dir=$back .*reason=expired"
		refute_log "event=drop dir=$dir"
	done
}

# ---- -e ----

# busybox's shell prefers its own nc, which half-closes without being asked
# to and has no -N.
need_nc_with_half_close()
{
	need_nc || return 1
	! nc -h 2>&1 | grep -q BusyBox || skip 'this nc is of busybox'
}

test_a_command_from_nc_gets_its_answer()
{
	need_nc_with_half_close || return 0
	for s in A B; do
		face "$s"
		bridge_start -e 10
		client_open "$other" || return
		printf 'cmd\n' | nc -N "$host" "$(port "$side")" >"$work/answer" &
		asker=$!
		client_hears "$other" 'cmd
'
		client_say "$other" 'answer'
		wait_until 5 grep -q answer "$work/answer"
		assertEquals answer "$(cat "$work/answer")"
		end_process "$asker"
	done
}

# asks SIDE: a client named asker says a word there and half-closes.
asks()
{
	client_wait=20
	client_open "$1" asker || return
	client_say asker 'cmd'
	eval "end_process \"\$holder_asker\""
	wait_log "event=half_close side=$1"
}

test_a_half_closed_side_is_closed_in_time()
{
	for s in A B; do
		face "$s"
		bridge_start -v -e 1
		client_open "$other" && asks "$side" || return
		client_lost "$side"
		assert_span 1 "event=half_close side=$side" "event=disconnect side=$side"
		wait_log "event=disconnect side=$side .* reason=eof"
		client_ends asker
		client_stays "$other"
	done
}

test_a_half_closed_side_is_not_closed_before()
{
	for s in A B; do
		face "$s"
		bridge_start -e 30
		client_open "$other" && asks "$side" || return
		for word in one two three; do
			sleep 0.2
			client_say "$other" "$word"
		done
		client_hears asker 'onetwothree'
		client_stays asker "$side"
		client_hears "$other" 'cmd'
	done
}

test_a_half_closed_side_gives_way_to_a_newcomer_at_once()
{
	for s in A B; do
		face "$s"
		bridge_start -e 60 -r 60
		client_open "$other" && asks "$side" || return
		client_open "$side" new || return
		client_ends asker
		client_lost "$side"
		refute_log 'event=refuse'
		client_say "$other" 'for the new one'
		client_hears new 'for the new one'
		client_heard_nothing asker
	done
}

test_without_the_option_eof_closes_at_once()
{
	for s in A B; do
		face "$s"
		bridge_start
		client_wait=20
		client_open "$other" && client_open "$side" || return
		client_close "$side"
		wait_log "event=disconnect side=$side .* reason=eof"
		assert_span 0 "event=connect side=$side" "event=disconnect side=$side"
		refute_log 'event=half_close'
		client_stays "$other"
	done
}

test_both_sides_may_half_close()
{
	bridge_start -e 1
	client_wait=20
	client_open A && client_open B || return
	for side in A B; do
		client_say "$side" "from $side"
		eval "end_process \"\$holder_$side\""
	done
	client_hears A 'from B'
	client_hears B 'from A'
	client_lost A
	client_lost B
	assert_accounted
}

# shellcheck source=/dev/null
. "$SHUNIT2"

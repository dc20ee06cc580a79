#!/bin/sh
#
# A side that goes, however it goes and however often, leaves the other one
# connected and in silence; what is sent meanwhile waits for its return.
. "${0%/*}/lib.sh"

test_a_side_that_closes_leaves_the_other_connected()
{
	for s in A B; do
		face "$s"
		pair_start || return
		client_close "$side"
		client_lost "$side"
		wait_log "event=disconnect side=$side .* reason=eof .* state=ONLY_$other\$"
		client_stays "$other"
		client_heard_nothing "$other"
	done
}

test_a_side_that_resets_leaves_the_other_connected()
{
	for s in A B; do
		face "$s"
		bridge_start
		client_open "$side" "$side" linger=0 && client_open "$other" || return
		client_say "$side" 'last words'
		client_hears "$other" 'last words'
		client_reset "$side"
		wait_log "event=disconnect side=$side .* reason=reset "
		client_stays "$other"
		client_hears "$other" 'last words'
	done
}

test_a_side_whose_process_is_killed_leaves_the_other_connected()
{
	make_bytes "$work/unread" 100000
	for s in A B; do
		face "$s"
		stuck_start "$side" || return
		client_feed "$other" "$work/unread"
		wait_total 100000 sent "$back"
		client_kill "$side"
		client_lost "$side"
		client_stays "$other"
		client_heard_nothing "$other"
	done
}

test_a_side_that_times_out_leaves_the_other_connected()
{
	for s in A B; do
		face "$s"
		pair_start -i 2 || return
		wait_until 10 other_speaks_until_lost
		assertTrue 'nobody times out' $?
		client_ends "$side"
		client_stays "$other"
	done
}

other_speaks_until_lost()
{
	client_say "$other" '.'
	log_has 1 "event=disconnect side=$side .* reason=timeout cause=idle "
}

test_traffic_resumes_when_a_side_returns()
{
	for s in A B; do
		face "$s"
		pair_start || return
		client_close "$side"
		client_open "$side" again || return
		client_say again 'I am back'
		client_hears "$other" 'I am back'
		client_say "$other" 'welcome'
		client_hears again 'welcome'
		client_stays "$other"
	done
}

test_what_is_sent_meanwhile_arrives_at_the_return()
{
	make_bytes "$work/meanwhile" 3000000
	for s in A B; do
		face "$s"
		pair_start || return
		client_close "$side"
		client_feed "$other" "$work/meanwhile"
		wait_total 3000000 held "$back"
		client_open "$side" || return
		wait_log "event=connect side=$side session=3 .* held=3000000"
		client_hears_file "$side" "$work/meanwhile"
		assert_accounted
	done
}

test_what_is_sent_before_the_other_ever_came_arrives()
{
	make_bytes "$work/early" 1000000
	for s in A B; do
		face "$s"
		bridge_start
		client_open "$side" || return
		client_feed "$side" "$work/early"
		client_fed "$side"
		client_open "$other" || return
		client_hears_file "$other" "$work/early"
	done
}

test_what_a_sender_left_behind_outlives_it()
{
	make_bytes "$work/legacy" 1000000
	for s in A B; do
		face "$s"
		bridge_start
		client_open "$side" || return
		client_feed "$side" "$work/legacy"
		client_fed "$side"
		client_close "$side"
		client_lost "$side"
		client_open "$other" || return
		client_hears_file "$other" "$work/legacy"
	done
}

test_all_that_came_before_a_reset_is_delivered()
{
	need_peer && need_linux || return 0
	for s in A B; do
		face "$s"
		bridge_start
		client_open "$other" || return
		for n in 1 2 3 4 5; do
			"$PEER" slam "$(port "$side")" "message $n "
			client_lost "$side" $n
		done
		client_hears "$other" \
		    'message 1 message 2 message 3 message 4 message 5 '
		client_stays "$other"
	done
}

# Here it is a failed send that tells the bridge of the reset, before it has
# read all.
test_all_that_came_before_a_failed_send_is_delivered()
{
	need_linux || return 0
	make_bytes "$work/last" 50000
	for s in A B; do
		face "$s"
		bridge_start -b 16k
		client_open "$other" || return
		client_open "$side" "$side" linger=0 || return
		bridge_freeze
		client_feed "$side" "$work/last"
		client_waits "$side" 50000
		client_say "$other" 'x'
		client_waits "$other" 1
		client_reset "$side"
		bridge_thaw
		client_hears_file "$other" "$work/last"
		client_lost "$side"
	done
}

test_what_is_held_for_a_side_outlives_its_connection()
{
	make_bytes "$work/much" 3000000
	for s in A B; do
		face "$s"
		stuck_start "$side" -w 0 || return
		client_feed "$other" "$work/much"
		wait_total 3000000 received "$back"
		held=$(total held "$back")
		assertNotEquals 'held' 0 "$held"
		client_kill "$side"
		client_lost "$side"
		tail -c "$held" "$work/much" >"$work/rest"
		client_open "$side" || return
		client_hears_file "$side" "$work/rest"
	done
}

# Both directions hold something at the same time, and each side finds its
# own when it returns.
test_both_sides_find_what_waits_for_them()
{
	pair_start || return
	client_close A
	client_say B 'for A'
	wait_total 5 held 'B->A'
	client_close B
	client_open B again || return
	client_open A || return
	client_hears A 'for A'
	client_heard_nothing again
}

test_an_orphan_survives_twenty_returns_of_every_kind()
{
	for s in A B; do
		face "$s"
		bridge_start
		client_open "$other" || return
		: >"$work/all"
		for n in 1 2 3 4 5 6 7 8 9 10; do
			client_visit close
			client_visit kill
		done
		client_hears_file "$other" "$work/all"
		client_stays "$other"
		assert_accounted
	done
}

# A client comes, says something new, and goes by that way.
client_visit()
{
	client_open "$side" || return
	client_say "$side" "$n $1,"
	printf '%s' "$n $1," >>"$work/all"
	wait_until 5 cmp -s "$work/all" "$work/$other.got"
	"client_$1" "$side"
}

# shellcheck source=/dev/null
. "$SHUNIT2"

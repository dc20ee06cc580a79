#!/bin/sh
#
# A newcomer takes the place of the client on its port, after everything that
# one had sent was read; clients in quick succession lose nothing.
. "${0%/*}/lib.sh"

test_a_newcomer_replaces_the_client_on_its_port()
{
	for s in A B; do
		face "$s"
		bridge_start
		client_open "$other" && client_open "$side" old || return
		client_open "$side" new || return
		client_ends old
		wait_log "event=disconnect side=$side session=2 .* reason=replaced"
		client_say new 'new'
		client_hears "$other" 'new'
		client_say "$other" 'hello'
		client_hears new 'hello'
		client_heard_nothing old
		client_stays "$other"
	done
}

test_replaced_is_told_before_the_newcomer_is()
{
	bridge_start
	client_open A old && client_open A new || return
	wait_log 'reason=replaced'
	order=$(sed -n 's/.* event=\([a-z]*\) side=A session=\([0-9]*\) .*/\1 \2/p' \
	    "$log" | tr '\n' ',')
	assertEquals 'connect 1,disconnect 1,connect 2,' "$order"
}

test_what_the_old_one_had_sent_comes_first()
{
	make_bytes "$work/old" 200000
	for s in A B; do
		face "$s"
		bridge_start
		client_open "$other" && client_open "$side" old || return
		bridge_freeze
		client_feed old "$work/old"
		client_fed old
		client_dial "$side" new
		client_say new 'new'
		client_waits "$side" 3 || return
		bridge_thaw
		{ cat "$work/old"; printf new; } >"$work/both"
		client_hears_file "$other" "$work/both"
		client_stays "$other"
	done
}

test_a_thousand_quick_clients_lose_nothing_in_order()
{
	need_peer || return 0
	for s in A B; do
		face "$s"
		bridge_start -v
		client_open "$other" || return
		"$PEER" burst "$(port "$side")" 1000 100 >"$work/sent"
		client_hears_file "$other" "$work/sent"
		client_lost "$side" 1000
		client_stays "$other"
		assert_accounted
	done
}

test_a_thousand_quick_clients_are_held_for_an_absent_side()
{
	need_peer || return 0
	for s in A B; do
		face "$s"
		bridge_start
		"$PEER" burst "$(port "$side")" 1000 3000 >"$work/sent"
		wait_total 3000000 held "$dir"
		client_open "$other" || return
		client_hears_file "$other" "$work/sent"
	done
}

test_clients_waiting_in_the_backlog_lose_nothing()
{
	need_peer || return 0
	for s in A B; do
		face "$s"
		bridge_start -v
		client_open "$other" && client_open "$side" || return
		client_say "$side" 'before'
		client_hears "$other" 'before'
		bridge_freeze
		"$PEER" burst "$(port "$side")" 5 20000 >"$work/sent"
		bridge_thaw
		{ printf before; cat "$work/sent"; } >"$work/all"
		client_hears_file "$other" "$work/all"
		client_lost "$side" 6
		assert_accounted
	done
}

test_an_endless_sender_does_not_keep_its_place()
{
	for s in A B; do
		face "$s"
		bridge_start
		bridge_busy=yes
		client_open "$side" old || return
		client_feed old /dev/zero
		wait_log "event=drop dir=$dir"
		client_open "$side" new || return
		wait_log "event=disconnect side=$side session=1 .* reason=replaced"
		client_ends old
	done
}

# shellcheck source=/dev/null
. "$SHUNIT2"

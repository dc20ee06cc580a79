#!/bin/sh
#
# Who keeps a busy port (-r): a newcomer replaces only a client that has been
# silent for that long; else it is refused, and touches nothing.
. "${0%/*}/lib.sh"

# refused_as_busy SIDE [TEXT]: asserts that a newcomer, which says the text
# at once, is closed without a byte, and that the log has it.
refused_as_busy()
{
	printf '%s' "${2:-}" | socat -t 1 - "TCP:$host:$(port "$1")" \
	    >"$work/newcomer" 2>/dev/null
	assertEquals 'bytes the newcomer got' 0 "$(size "$work/newcomer")"
	refute_log 'reason=replaced'
	client_stays "$1"
}

test_a_client_that_spoke_just_now_is_kept_and_the_newcomer_refused()
{
	for s in A B; do
		face "$s"
		pair_start -r 60 || return
		client_say "$side" 'busy'
		client_hears "$other" 'busy'
		refused_as_busy "$side" 'evil'
		wait_log "level=warn event=refuse side=$side peer=127\.0\.0\.1:[0-9]* reason=busy count=1\$"
		client_say "$side" ' still'
		client_hears "$other" 'busy still'
		client_say "$other" 'fine'
		client_hears "$side" 'fine'
	done
}

# waits_for stays|goes: before the old one is read out, nobody can tell whether
# it has gone; then the newcomer is refused, or comes in.
waits_for()
{
	make_bytes "$work/much" 50000
	for s in A B; do
		face "$s"
		bridge_start -l -b 1k -r 60
		client_open "$side" old || return
		client_feed old "$work/much"
		wait_total 1024 held "$dir"
		client_fed old
		[ "$1" = stays ] || client_close old
		client_dial "$side" newcomer
		client_say newcomer ' new'
		sleep 0.5
		refute_log event=refuse
		client_open "$other" || return
		if [ "$1" = stays ]; then
			client_ends newcomer
			wait_log "event=refuse side=$side .* reason=busy count=1\$"
			client_hears_file "$other" "$work/much"
		else
			{ cat "$work/much"; printf ' new'; } >"$work/both"
			client_hears_file "$other" "$work/both"
			refute_log event=refuse
		fi
	done
}

test_a_newcomer_waits_until_a_client_that_stays_is_read_out()
{
	waits_for stays
}

test_a_newcomer_waits_until_a_client_that_has_gone_is_read_out()
{
	waits_for goes
}

test_a_client_silent_for_that_long_is_replaced()
{
	bridge_start -r 1
	client_open A old_A && client_open B old_B || return
	sleep 1.1
	client_open A new_A && client_open B new_B || return
	wait_log 'event=disconnect side=A session=1 .* reason=replaced'
	wait_log 'event=disconnect side=B session=2 .* reason=replaced'
	client_ends old_A
	client_ends old_B
	refute_log 'event=refuse'
}

# Each time less than the five seconds of the option after it spoke, and in
# the end more than that after it came.
test_a_client_silent_for_less_is_not_replaced()
{
	pair_start -r 5 || return
	for word in one two; do
		client_say A "$word"
		client_say B "$word"
		sleep 2.6
		refused_as_busy A
		refused_as_busy B
	done
	wait_log 'event=refuse side=A'
	wait_log 'event=refuse side=B'
}

test_what_a_client_sent_before_the_newcomer_came_counts()
{
	pair_start -r 1 || return
	sleep 1.1
	bridge_freeze
	for side in A B; do
		client_say "$side" 'here I am'
		client_dial "$side" "new_$side"
	done
	sleep 0.5
	bridge_thaw
	client_ends new_A
	client_ends new_B
	client_stays A
	client_stays B
}

test_a_client_that_never_spoke_is_kept_from_when_it_came()
{
	for s in A B; do
		face "$s"
		bridge_start -r 60
		client_open "$side" || return
		refused_as_busy "$side"
		wait_log "event=refuse side=$side .* reason=busy"
	done
}

# What it is sent says nothing about whether it lives.
test_only_what_a_client_sends_keeps_it()
{
	for s in A B; do
		face "$s"
		bridge_start -r 1
		client_open "$side" old && client_open "$other" || return
		for word in one two three; do
			client_say "$other" "$word"
			sleep 0.4
		done
		client_open "$side" new || return
		wait_log "event=disconnect side=$side .* reason=replaced"
	done
}

test_a_free_port_takes_whoever_comes_at_any_time()
{
	for s in A B; do
		face "$s"
		bridge_start -r 60
		client_open "$side" one || return
		client_say one 'last words'
		client_close one
		client_lost "$side"
		client_open "$side" two || return
		client_stays two "$other"
		refute_log 'event=refuse'
	done
}

test_a_port_scan_does_not_evict_a_live_device()
{
	need_peer || return 0
	for s in A B; do
		face "$s"
		pair_start -r 60 || return
		client_say "$side" 'measured'
		client_hears "$other" 'measured'
		"$PEER" burst "$(port "$side")" 50 10 >/dev/null
		client_say "$side" ' again'
		client_hears "$other" 'measured again'
		client_stays "$side"
		assertTrue 'too many lines' "[ $(log_count event=refuse) -le 5 ]"
	done
}

test_refused_newcomers_are_not_in_the_totals()
{
	pair_start -r 60 || return
	refused_as_busy A 'evil'
	refused_as_busy B 'evil'
	assert_accounted
	assertEquals 0 "$(total received 'A->B')"
	assertEquals 0 "$(total received 'B->A')"
	wait_log 'event=stats side=A connected=1 session=1 .* connects=1$'
	wait_log 'event=stats side=B connected=1 session=2 .* connects=1$'
}

# shellcheck source=/dev/null
. "$SHUNIT2"

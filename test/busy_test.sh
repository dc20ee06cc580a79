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

# unread_start SECS: a client of $side that is not read, for the other side is
# absent and nothing more has room; -r has so many seconds.
unread_start()
{
	bridge_start -l -b 1k -r "$1"
	client_open "$side" || return
	client_feed "$side" "$work/much"
	wait_total 1024 held "$dir"
	client_fed "$side"
}

# Time in which it is not read says nothing about it.
test_a_newcomer_is_refused_at_once_though_the_client_is_not_read()
{
	make_bytes "$work/much" 50000
	for s in A B; do
		face "$s"
		unread_start 1 || return
		sleep 1.2
		refused_as_busy "$side" ' new'
		wait_log "event=refuse side=$side .* reason=busy count=1\$"
		client_open "$other" || return
		client_hears_file "$other" "$work/much"
	done
}

# Where the system tells that an end waits behind what was not read.
test_a_newcomer_comes_at_once_if_the_client_that_is_not_read_has_gone()
{
	need_linux || return 0
	make_bytes "$work/much" 50000
	for s in A B; do
		face "$s"
		unread_start 60 || return
		client_close "$side"
		client_open "$side" newcomer || return
		wait_log "event=leaving side=$side session=1 .* reason=eof unread=48976 "
		client_say newcomer ' new'
		client_open "$other" || return
		{ cat "$work/much"; printf ' new'; } >"$work/both"
		client_hears_file "$other" "$work/both"
		wait_log "event=disconnect side=$side session=1 .* reason=eof .* received=50000 "
		refute_log event=refuse
	done
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

# Each time less than the option says after it spoke, and in the end more than
# that after it came.
test_a_client_silent_for_less_is_not_replaced()
{
	pair_start -r 4 || return
	for word in one two three four; do
		client_say A "$word"
		client_say B "$word"
		sleep 1
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
		client_waits "$side" 9
		client_dial "$side" "new_$side"
		clients_wait "$side" 2
	done
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
		few=$(log_count event=refuse)
		span=$(log_span event=refuse event=refuse)
		assertTrue "$few lines within $span s" \
		    "[ $few -le $((${span%.*} + 2)) ]"
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

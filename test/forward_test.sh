#!/bin/sh
#
# Bytes go both ways between whoever dials the one side and the other, whole,
# unchanged, at once, and with nothing added.
. "${0%/*}/lib.sh"

test_what_one_side_says_the_other_hears()
{
	for s in A B; do
		face "$s"
		pair_start || return
		client_say "$side" 'ping'
		client_hears "$other" 'ping'
		client_say "$other" 'pong'
		client_hears "$side" 'pong'
	done
}

test_nothing_is_said_by_the_bridge_itself()
{
	pair_start || return
	totals_ask
	client_heard_nothing A
	client_heard_nothing B
	client_close A
	client_heard_nothing B
}

test_every_byte_value_passes_unchanged()
{
	LC_ALL=C awk 'BEGIN { for (i = 1; i < 256; i++) printf "%c", i }' >"$work/all"
	printf '\000\377\000\r\n\004' >>"$work/all"
	for s in A B; do
		face "$s"
		pair_start || return
		client_feed "$side" "$work/all"
		client_hears_file "$other" "$work/all"
	done
}

test_whole_streams_pass_both_ways_at_once()
{
	make_bytes "$work/from_A" 20000000
	make_bytes "$work/from_B" 15000001
	pair_start || return
	client_feed A "$work/from_A"
	client_feed B "$work/from_B"
	client_hears_file B "$work/from_A" 60
	client_hears_file A "$work/from_B" 60
	wait_total 20000000 sent 'A->B'
	wait_total 15000001 sent 'B->A'
	assert_accounted
	refute_log 'event=drop '
}

test_the_totals_add_up_at_every_moment_of_a_stream()
{
	make_bytes "$work/stream" 20000000
	pair_start || return
	client_feed A "$work/stream"
	client_feed B "$work/stream"
	for moment in 1 2 3 4 5 6 7 8; do
		assert_accounted || echo "moment $moment"
	done
	client_hears_file B "$work/stream" 60
	client_hears_file A "$work/stream" 60
}

test_two_ncs_talk_through_it()
{
	need_nc || return 0
	client_with=nc
	make_bytes "$work/stream" 300000
	for s in A B; do
		face "$s"
		bridge_start
		client_open "$other" && client_open "$side" || return
		client_feed "$side" "$work/stream"
		client_hears_file "$other" "$work/stream"
		client_say "$other" 'thanks'
		client_hears "$side" 'thanks'
	done
}

test_a_bridge_with_little_memory_passes_a_long_stream()
{
	# The next byte has to wait until the one before was acknowledged.
	for bytes in 1 7 4096; do
		make_bytes "$work/stream" $((1000 + 9 * bytes))
		pair_start -b "$bytes" -g 5 || return
		client_feed A "$work/stream"
		client_feed B "$work/stream"
		client_hears_file B "$work/stream" 30
		client_hears_file A "$work/stream" 30
		assert_accounted
	done
}

# The reader takes what its socket has room for, so the ring is seldom empty
# and its end comes round hundreds of times.
test_a_small_ring_goes_round_under_a_slow_reader()
{
	need_peer || return 0
	make_bytes "$work/stream" 2000000
	for s in A B; do
		face "$s"
		bridge_start -b 10007 -g 5
		client_open "$side" || return
		sipper_open "$other" 3001 1 4096
		client_feed "$side" "$work/stream"
		assert_gets_same 'the stream' "$work/stream" "$work/sipped" 20
	done
}

test_the_first_byte_waits_for_no_timer()
{
	need_peer || return 0
	bridge_start
	for ports in "$port_A $port_B" "$port_B $port_A"; do
		# shellcheck disable=SC2086 # two of them
		first=$("$PEER" first $ports 15)
		assertNotNull 'the bytes did not arrive' "$first" || return
		[ "$first" -lt $((5000 * PATIENCE)) ]
		assertTrue "first byte after $first microseconds" $?
	done
}

test_a_message_costs_three_system_calls()
{
	need strace && need_peer && need_native || return 0
	bridge_start
	strace -q -p "$bridge_pid" -o "$work/trace" 2>"$work/strace.err" &
	tracer=$!
	wait_until 5 traced || { skip 'strace may not attach'; return 0; }
	"$PEER" pingpong "$port_A" "$port_B" 200
	bridge_kill
	end_process "$tracer"
	# Three for each, and up to 100 for two that come; one more for each
	# would be 1600.
	calls=$(grep -c '' "$work/trace")
	[ "$calls" -le 1300 ]
	assertTrue "$calls calls for 400 messages and two clients" $?
}

traced()
{
	grep -q 'TracerPid:.[1-9]' "/proc/$bridge_pid/status"
}

# shellcheck source=/dev/null
. "$SHUNIT2"

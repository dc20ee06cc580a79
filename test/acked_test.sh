#!/bin/sh
#
# A byte is held until the system of the client that it went to has
# acknowledged it.  When that client goes, the next one gets the rest first.
. "${0%/*}/lib.sh"

client_deaf=

# deaf_open NAME: a client of $side that reads nothing, with a small buffer;
# with $deaf_with it is test/tools/peer.c, whose status tells of a reset.
deaf_with=
deaf_open()
{
	if [ -n "$deaf_with" ]; then
		client_dial_peer "$1"
		wait_log "event=connect side=$side"
	else
		client_open "$side" "$1" rcvbuf=4096
	fi
	client_freeze "$1"
}

client_dial_peer()
{
	"$deaf_with" sip "$(port "$side")" 65536 0 4096 >"$work/$1.got" &
	eval "client_$1=$!"
	clients="$clients $1"
	deaf_with=
}

# owed_start [OPTIONS]: the client of $side, called deaf, is owed most of the
# 300,000 bytes that $other has said; nothing moves any more.  Sets $acked to
# what its system has acknowledged, and $on_its_way to what has come no
# further than the bridge's system, as both say.
owed_start()
{
	need ss || return
	bridge_start "$@"
	client_open "$other" && deaf_open deaf || return
	client_feed "$other" "$work/said"
	client_fed "$other" && wait_total 300000 received "$back" &&
	    wait_until 10 stands_still
	assertTrue 'it does not come to rest' $? && sockets_asked
}

# sockets_asked: sets $acked and $on_its_way; $side has one connection.
sockets_asked()
{
	acked=$(ss -tnH state established dst "$host:$(port "$side")" |
	    awk '{ print $1 }')
	on_its_way=$(ss -tnH state established src "$host:$(port "$side")" |
	    awk '{ print $2 }')
	assertNotNull 'ss knows no such connection' "$acked"
}

# stands_still: tells whether nothing is received or acknowledged for a while.
stands_still()
{
	totals_come && stood="$(total received "$back") $(total sent "$back")" &&
	    sleep 0.3 && totals_come &&
	    [ "$stood" = "$(total received "$back") $(total sent "$back")" ]
}

# assert_counters_grow: asserts that no total of this log was ever less than
# before.
assert_counters_grow()
{
	shrunk=$(awk '/ event=stats dir=/ {
		for (i = 1; i <= NF; i++) {
			split($i, pair, "=")
			if (pair[1] == "dir")
				dir = pair[2]
			if (pair[1] !~ /^(received|sent|dropped|drops|unacked)$/)
				continue
			key = dir " " pair[1]
			if (pair[2] + 0 < most[key] + 0)
				print "less: " $0
			most[key] = pair[2]
		}
	}' "$log")
	assertNull "$shrunk" "$shrunk"
}

# passes_on HOW [OPTIONS]: the client that reads nothing goes, in this way, and
# the next one comes; it gets the rest, and then what is new.
passes_on()
{
	make_bytes "$work/said" 300000
	for s in A B; do
		face "$s"
		owed_start ${2:+"$2" "$3"} || return 0
		"$1" && client_lost "$side" || return
		client_say "$other" 'newer'
		tail -c +$((acked + 1)) "$work/said" >"$work/rest"
		printf newer >>"$work/rest"
		client_hears_file next "$work/rest"
		wait_total 0 held "$back"
		assert_accounted
		assert_counters_grow
		refute_log 'event=drop'
	done
}

it_is_killed()
{
	client_kill deaf
	client_lost "$side" && client_open "$side" next
}

it_is_replaced()
{
	client_open "$side" next
}

it_times_out()
{
	wait_log "event=disconnect side=$side .* reason=timeout cause=write " &&
	    client_open "$side" next
}

test_what_a_killed_client_had_not_acknowledged_goes_to_the_next()
{
	passes_on it_is_killed
}

test_what_a_replaced_client_had_not_acknowledged_goes_to_the_next()
{
	passes_on it_is_replaced
}

test_what_a_client_that_hangs_had_not_acknowledged_goes_to_the_next()
{
	passes_on it_times_out -w 3
}

# Its system delivers what it has acknowledged, and not a byte more; and tells
# that this is no end as any, so that it does not take it for the whole.
test_a_replaced_client_hears_what_it_has_acknowledged_and_a_reset()
{
	need_peer || return 0
	make_bytes "$work/said" 300000
	for s in A B; do
		face "$s"
		deaf_with=$PEER
		owed_start && it_is_replaced || return 0
		wait_total 0 held "$back"
		client_thaw deaf
		client_ends deaf || return
		wait "$client_deaf"
		assertEquals 'status of a client that is reset' 1 $?
		cat "$work/deaf.got" "$work/next.got" >"$work/heard"
		assert_same_bytes 'what both heard' "$work/said" "$work/heard"
	done
}

test_a_replaced_client_that_is_owed_nothing_is_closed_and_not_reset()
{
	need_peer || return 0
	for s in A B; do
		face "$s"
		bridge_start
		deaf_with=$PEER
		client_open "$other" && deaf_open deaf || return
		client_thaw deaf
		client_say "$other" 'one'
		wait_total 0 held "$back"
		it_is_replaced && client_ends deaf || return
		wait "$client_deaf"
		assertEquals 'status of a client that is closed' 0 $?
		assertEquals 'heard' one "$(cat "$work/deaf.got")"
	done
}

# A chain of clients, none of which reads before the next one is there.
# Without -v such quick newcomers are told in sums only.
test_nothing_is_lost_or_twice_along_a_chain_of_clients()
{
	make_bytes "$work/said" 100000
	for s in A B; do
		face "$s"
		bridge_start -v
		client_open "$other" || return
		client_feed "$other" "$work/said"
		for link in 1 2 3 4; do
			deaf_open "link$link" || return
			wait_until 10 stands_still
		done
		client_open "$side" last || return
		wait_total 0 held "$back"
		for link in 1 2 3 4; do
			client_thaw "link$link"
			client_ends "link$link"
		done
		cat "$work"/link?.got "$work/last.got" >"$work/heard"
		assert_same_bytes 'what all heard' "$work/said" "$work/heard"
		assert_counters_grow
	done
}

# The systems of both ends know how much that is.
test_sent_and_unacked_are_what_the_client_s_system_says()
{
	make_bytes "$work/said" 300000
	for s in A B; do
		face "$s"
		owed_start || return 0
		totals_ask
		assertEquals 'sent' "$acked" "$(total sent "$back")"
		assertEquals 'held' $((300000 - acked)) \
		    "$(total held "$back")"
		assertEquals 'unacked so far' 0 "$(total unacked "$back")"
		client_kill deaf
		client_lost "$side"
		lost="disconnect side=$side"
		assertEquals 'sent' "$acked" "$(log_value sent "$lost")"
		assertEquals 'unacked' "$on_its_way" \
		    "$(log_value unacked "$lost")"
		assertEquals 'held' $((300000 - acked)) \
		    "$(log_value held "$lost")"
		wait_total "$on_its_way" unacked "$back"
		assert_accounted
	done
}

test_after_an_orderly_close_nothing_comes_twice()
{
	for s in A B; do
		face "$s"
		pair_start || return
		client_say "$other" 'one'
		client_hears "$side" 'one'
		client_close "$side"
		client_lost "$side"
		client_say "$other" 'two'
		client_open "$side" next || return
		client_hears next 'two'
		assertEquals 'unacked' 0 \
		    "$(log_value unacked "disconnect side=$side")"
		wait_total 0 unacked "$back"
		assertEquals 'sent' 6 "$(total sent "$back")"
	done
}

what_is_owed_expires()
{
	client_kill deaf
	client_lost "$side"
	wait_log "event=drop dir=$back .* reason=expired"
	wait_total $((300000 - acked)) dropped "$back"
	assertEquals 'held' 0 "$(total held "$back")"
}

test_without_holding_nothing_is_sent_again()
{
	make_bytes "$work/said" 300000
	for s in A B; do
		face "$s"
		owed_start -H 0 || return 0
		what_is_owed_expires
		client_open "$side" next || return
		client_say "$other" 'newer'
		client_hears next 'newer'
		assert_accounted
	done
}

test_without_holding_a_newcomer_gets_nothing_of_the_one_before()
{
	make_bytes "$work/said" 300000
	for s in A B; do
		face "$s"
		owed_start -H 0 && it_is_replaced || return 0
		client_say "$other" 'newer'
		client_hears next 'newer'
		client_thaw deaf
		client_ends deaf
		assertEquals 'heard' "$acked" "$(size "$work/deaf.got")"
		wait_total $((300000 - acked)) dropped "$back"
		assert_accounted
	done
}

test_what_comes_back_expires_with_the_rest()
{
	make_bytes "$work/said" 300000
	for s in A B; do
		face "$s"
		owed_start -H 1 || return 0
		what_is_owed_expires
		assert_accounted
	done
}

# -b bounds what is on its way, too.
test_what_is_on_its_way_counts_as_held()
{
	need ss || return 0
	for s in A B; do
		face "$s"
		bridge_start -l -b 10k
		client_open "$other" && deaf_open deaf || return
		client_feed "$other" /dev/zero
		wait_until 10 is_full
		assertTrue 'the ring does not fill' $? && sockets_asked || return
		assertEquals 'received' $((acked + 10240)) \
		    "$(total received "$back")"
		client_kill deaf
		client_lost "$side"
		wait_total 10240 held "$back"
	done
}

is_full()
{
	total_is 10240 held "$back" && stands_still
}

# All of it is on its way, and the sender waits: the bridge asks, but in no
# hurry, and not at all once nobody is there to be asked.
test_a_full_ring_that_waits_for_acknowledgements_asks_20_times_a_second()
{
	need_proc || return 0
	bridge_start -l -b 10k
	client_open "$other" && deaf_open deaf || return
	client_feed "$other" /dev/zero
	wait_until 10 is_full
	turns=$(wake_ups)
	assertTrue "$turns wake-ups in 2 s" "[ $turns -le 50 ]"
	client_kill deaf
	client_lost "$side"
	turns=$(wake_ups)
	assertTrue "$turns wake-ups in 2 s" "[ $turns -le 1 ]"
}

# wake_ups: prints how often the bridge goes to sleep in 2 seconds.
wake_ups()
{
	sleep 0.3
	slept=$(naps)
	sleep 2
	echo $(($(naps) - slept))
}

naps()
{
	awk '/^voluntary_ctxt_switches/ { print $2 }' "/proc/$bridge_pid/status"
}

# shellcheck source=/dev/null
. "$SHUNIT2"

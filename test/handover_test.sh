#!/bin/sh
#
# The way from one client of a side to the next: the oldest is read, for what
# had arrived from it; the newest is sent to.  Nobody waits for one that does
# nothing.
# shellcheck disable=SC2034 # some variables are for lib.sh
. "${0%/*}/lib.sh"

# With $slow a client reads that many bytes every tenth of a second; with "all"
# it reads all at once, and nobody wants it.
slow=
client_run()
{
	set -- "TCP:$client_host:$1,nodelay${2:+,$2}"
	[ -n "$slow" ] || exec socat -t "$client_wait" - "$1"
	[ "$slow" != all ] || exec socat -b 262144 - "$1" >/dev/null
	rm -f "$work/slow"
	mkfifo "$work/slow"
	slow_reader <"$work/slow" &
	exec socat -t "$client_wait" - "$1,rcvbuf=8192" >"$work/slow"
}

slow_reader()
{
	while [ "$(head -c "$slow" | wc -c)" -gt 0 ]; do
		sleep 0.1
	done
}

# slow_open SIDE BYTES|all: its client reads so.
slow_open()
{
	slow=$2
	client_open "$1"
	slow_opened=$?
	slow=
	return $slow_opened
}

# pourer_open SIDE: its client sends without end, and never reads.
pourer_open()
{
	socat -u -b 262144 /dev/zero "TCP:$host:$(port "$1")" 2>/dev/null &
	client_pourer=$!
	clients="$clients pourer"
	wait_log "event=connect side=$1"
}

# assert_left_in SECS SESSION: asserts that this client was leaving no longer
# than that, by the log.
assert_left_in()
{
	left=$(awk -v session=" session=$2 " '
	function clock(part) {
		split(substr($1, 17), part, /[:Z]/)
		return part[1] * 3600 + part[2] * 60 + part[3]
	}
	index($0, session) == 0 { next }
	/ event=leaving / { began = clock() }
	/ event=disconnect / { ended = clock() }
	END {
		if (began > ended)
			ended += 86400
		print began == 0 ? 0 : ended - began
	}' "$log")
	awk "BEGIN { exit !($left <= $1 * $PATIENCE) }"
	assertTrue "session $2 was leaving for $left s of $1" $?
}

# It sends faster than it is passed on, so its socket never runs empty: only
# what had arrived from it counts.
test_one_that_is_given_up_is_closed_soon_though_it_goes_on_sending()
{
	for s in A B; do
		face "$s"
		bridge_start -l -w 1
		bridge_busy=yes
		slow_open "$other" 300000 && pourer_open "$side" || return
		client_feed "$other" /dev/zero
		wait_log "event=leaving side=$side session=2 peer=[^ ]* reason=timeout cause=write unread=[1-9][0-9]* state=ONLY_$other\$" || return
		unread=$(log_value unread event=leaving)
		wait_log "event=disconnect side=$side session=2 .* cause=write "
		assert_left_in $((unread / 1000000 + 3)) 2
	done
}

# both_full_start OPTIONS: both rings are full: the client of $side, session 1,
# hangs, and the one of $other reads nothing before it has sent 6 MB.
both_full_start()
{
	bridge_start -b 64k "$@"
	pourer_open "$side" || return
	: >"$work/blunt.got"
	socat "SYSTEM:cat '$work/much'; exec cat >'$work/blunt.got'" \
	    "TCP:$host:$(port "$other")" &
	client_blunt=$!
	clients="$clients blunt"
	wait_log "event=connect side=$other" && wait_until 20 all_stand_still
	assertTrue 'the rings do not fill' $?
}

all_stand_still()
{
	totals_come && stood=$(received_both) && sleep 0.5 && totals_come &&
	    [ "$stood" = "$(received_both)" ]
}

received_both()
{
	echo "$(total received 'A->B') $(total received 'B->A')"
}

# wedge OPTIONS: the newcomer of $side gets all that the client before it had
# not acknowledged, and both directions go on.
wedge()
{
	make_bytes "$work/much" 6000000
	for s in A B; do
		face "$s"
		both_full_start "$@" || return
		client_open "$side" new || return
		client_lost "$side"
		tail -c +$(($(log_value sent "disconnect side=$side") + 1)) \
		    "$work/much" >"$work/rest"
		client_hears_file new "$work/rest"
		client_say new 'all is well'
		wait_until 10 ends_with 'all is well' "$work/blunt.got"
		assertTrue "what is said last does not reach $other" $?
		refute_log 'event=drop'
		assert_accounted
	done
}

ends_with()
{
	[ "$(tail -c ${#1} "$2" | tr '\0' .)" = "$1" ]
}

test_a_newcomer_of_one_that_hangs_sets_both_directions_going()
{
	wedge -l -w 0
}

test_a_newcomer_of_one_that_hangs_drops_nothing_under_l()
{
	wedge -l -w 60
}

# answered_busy OPTIONS: the client of $side sends all the time, as fast as it
# can.
answered_busy()
{
	for s in A B; do
		face "$s"
		bridge_start -r 60 "$@"
		bridge_busy=yes
		slow_open "$other" all && pourer_open "$side" || return
		for newcomer in one two; do
			client_dial "$side" "$newcomer"
			client_ends "$newcomer" 3
		done
		wait_log "event=refuse side=$side .* reason=busy count=1\$"
		refute_log "event=disconnect side=$side"
	done
}

test_a_newcomer_is_refused_at_once_by_one_that_sends_all_the_time()
{
	answered_busy
}

test_a_newcomer_is_refused_at_once_under_l_as_well()
{
	answered_busy -l
}

# held_back_start OPTIONS: $other is absent, and the client of $side, session 1,
# waits with most of 50,000 bytes.
held_back_start()
{
	make_bytes "$work/old" 50000
	bridge_start -l -b 1k "$@"
	client_open "$side" old || return
	client_feed old "$work/old"
	wait_total 1024 held "$dir" && client_fed old
}

test_a_newcomer_is_refused_at_once_while_the_old_one_is_held_back()
{
	for s in A B; do
		face "$s"
		held_back_start -r 60 || return
		client_dial "$side" new
		client_ends new 3
		wait_log "event=refuse side=$side .* reason=busy count=1\$"
		client_open "$other" || return
		client_hears_file "$other" "$work/old"
		client_stays old "$side"
	done
}

# strangers_come COUNT: that many dial $side from another address, each in its
# turn; when one is closed, the file strangers gets a line.
strangers_come()
{
	: >"$work/strangers"
	(
		stranger=0
		while [ "$stranger" -lt "$1" ]; do
			socat -u "TCP:$host:$(port "$side"),bind=127.66.66.66" \
			    OPEN:/dev/null || break
			echo closed >>"$work/strangers"
			stranger=$((stranger + 1))
		done
	) 2>"$work/strangers.err" &
	client_strangers=$!
	clients="$clients strangers"
}

test_strangers_are_closed_at_once_while_a_client_waits_to_be_read()
{
	need_loopback || return 0
	for s in A B; do
		face "$s"
		held_back_start "-$side" 127.0.0.1 || return
		client_dial "$side" new
		client_say new ' new'
		strangers_come 200
		wait_until 10 is_dead "$client_strangers"
		assertEquals 'strangers closed' 200 \
		    "$(grep -c closed "$work/strangers")"
		client_dial "$side" newer
		wait_count 3 "event=connect side=$side" || return
		client_say newer ' newer'
		client_open "$other" || return
		{ cat "$work/old"; printf ' new newer'; } >"$work/all"
		client_hears_file "$other" "$work/all"
		client_say "$other" 'hello'
		client_hears newer 'hello'
	done
}

# need_loopback: all of 127.0.0.0/8 is this machine.
need_loopback()
{
	[ "$host" != 127.0.0.1 ] || skip 'only 127.0.0.1 is this machine'
}

test_a_newcomer_is_sent_to_at_once_while_the_old_one_is_read()
{
	for s in A B; do
		face "$s"
		bridge_start -b 64k
		bridge_busy=yes
		slow_open "$other" 20000 && pourer_open "$side" || return
		sleep 1
		client_dial "$side" new
		wait_log "event=leaving side=$side session=2 peer=[^ ]* reason=replaced by=[^ ]* unread=[1-9][0-9]* state=" 5 || return
		client_say "$other" 'for the new one'
		client_hears new 'for the new one' 3
		unread=$(log_value unread event=leaving)
		wait_log "event=disconnect side=$side session=2 .* reason=replaced" \
		    $((unread / 100000 + 5))
		assert_left_in $((unread / 100000 + 5)) 2
		order=$(sed -n 's/.* event=\([a-z]*\) .*session=\([23]\) .*/\1 \2/p' \
		    "$log" | tr '\n' ',')
		assertEquals 'connect 2,leaving 2,connect 3,disconnect 2,' "$order"
	done
}

# What had arrived is all that the oldest is read for, so the newest is read
# after it in a time that its own bytes take.
test_a_newcomer_is_read_after_what_had_arrived_from_the_old_one()
{
	for s in A B; do
		face "$s"
		held_back_start || return
		client_open "$side" new || return
		client_say old ' too late' 2>/dev/null
		client_say new ' new'
		client_open "$other" || return
		{ cat "$work/old"; printf ' new'; } >"$work/all"
		client_hears_file "$other" "$work/all"
		client_ends old
		assertEquals 'received of the old one' 50000 \
		    "$(log_value received "disconnect side=$side session=1")"
	done
}

# came_to SIZE: tells whether the bridge's system has so much of one client.
came_to()
{
	ss -tnH src "$host:$(port "$side")" |
	    awk -v size="$1" '$2 == size { found = 1 } END { exit !found }'
}

# Who replace each other so quickly are told with -v only.
test_newcomers_behind_newcomers_are_read_in_their_order()
{
	need ss || return 0
	for s in A B; do
		face "$s"
		held_back_start -v || return
		cp "$work/old" "$work/all"
		for n in 1 2 3 4 5 6 7; do
			make_bytes "$work/more" $((20000 + n))
			cat "$work/more" >>"$work/all"
			client_dial "$side" "new$n"
			client_feed "new$n" "$work/more"
			wait_until 10 came_to $((20000 + n))
			assertTrue "client new$n does not come" $? || return
		done
		wait_count 7 "event=leaving side=$side .* reason=replaced"
		client_open "$other" || return
		client_hears_file "$other" "$work/all"
		client_lost "$side" 7
		refute_log 'event=drop'
		client_say "$other" 'hello'
		client_hears new7 'hello'
	done
}

test_more_newcomers_than_there_are_places_lose_nothing()
{
	need_peer || return 0
	for s in A B; do
		face "$s"
		held_back_start -v || return
		"$PEER" burst "$(port "$side")" 30 3000 >"$work/sent"
		client_open "$other" || return
		cat "$work/old" "$work/sent" >"$work/all"
		client_hears_file "$other" "$work/all"
		client_lost "$side" 31
		assert_accounted
	done
}

# With so small a ring the bridge hardly ever sleeps: something is always ready,
# so a stop does not interrupt a wait.
test_a_stop_amid_traffic_is_not_charged_to_anybody()
{
	for s in A B A B; do
		face "$s"
		bridge_start -v -b 64 -i 1.2
		bridge_busy=yes
		slow_open "$side" all && pourer_open "$other" || return
		sleep 0.2
		bridge_freeze
		refute_log 'event=disconnect'
		sleep 1.5
		bridge_thaw
		wait_log "event=disconnect side=$side .* cause=idle"
		stayed=$(log_value duration "disconnect side=$side .* cause=idle")
		awk "BEGIN { exit !($stayed >= 2.7) }"
		assertTrue "closed after $stayed s, 1.5 of them in a stop" $?
	done
}

# shellcheck source=/dev/null
. "$SHUNIT2"

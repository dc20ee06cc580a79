#!/bin/sh
#
# Many bridges on one machine: a process, a log and two ports each, and
# nothing of one gets into another.
. "${0%/*}/lib.sh"

# each COMMAND...: runs it for every bridge, with its number as last argument
# and $log, $port_A and $port_B set for it.
each()
{
	number=0
	while [ "$number" -lt "$many" ]; do
		number=$((number + 1))
		log=$work/log.$number
		[ -f "$log" ] || : >"$log"
		ports_logged
		"$@" "$number"
	done
	log=$work/log
}

# All are registered as clients, so that they end with the test.
bridge_many()
{
	: >"$log"
	# shellcheck disable=SC2086 # a list of words
	$TCPBRIDGE -n "bridge-$1" "$host:0" "$host:0" \
	    </dev/null >/dev/null 2>"$log" &
	eval "client_bridge_$1=$!"
	clients="$clients bridge_$1"
}

# both_dial N: a client on each side of that bridge; both_are_there waits.
both_dial()
{
	client_dial A "A_$1"
	client_dial B "B_$1"
}

both_are_there()
{
	wait_log "event=connect side=A"
	wait_log "event=connect side=B"
}

# both_send N: bytes of its own each way, at once.
both_send()
{
	make_bytes "$work/sent_A_$1" 100000
	make_bytes "$work/sent_B_$1" 50000
	client_feed "A_$1" "$work/sent_A_$1"
	client_feed "B_$1" "$work/sent_B_$1"
}

both_hear()
{
	client_hears_file "A_$1" "$work/sent_B_$1"
	client_hears_file "B_$1" "$work/sent_A_$1"
}

is_ended()
{
	kill -TERM "$(client_pid "bridge_$1")"
}

# ended_well N: that bridge ends, and its log is its own and adds up.
ended_well()
{
	wait "$(client_pid "bridge_$1")"
	assertEquals "status of bridge $1" 0 $?
	wait_log 'event=stats dir=A->B received=100000 sent=100000 dropped=0 held=0 '
	wait_log 'event=stats dir=B->A received=50000 sent=50000 dropped=0 held=0 '
	assertEquals "lines of another in log $1" 0 \
	    "$(grep -c -v "name=bridge-$1 " "$log")"
	assertEquals 'connections' 2 "$(log_count event=connect)"
	log_check
}

test_twenty_bridges_at_once_cross_nothing()
{
	many=20
	each bridge_many
	each wait_log_of event=ready
	each ports_told >"$work/ports"
	assertEquals 'ports' 40 "$(sort -u "$work/ports" | grep -c '^[1-9]')"
	each both_dial
	each both_are_there
	each both_send
	each both_hear
	each is_ended
	each ended_well
}

# wait_log_of PATTERN N: as wait_log.
wait_log_of()
{
	wait_log "$1"
}

ports_told()
{
	echo "$port_A"
	echo "$port_B"
}

test_one_that_dies_takes_none_of_the_others_with_it()
{
	many=3
	each bridge_many
	each wait_log_of event=ready
	each both_dial
	each both_are_there
	client_kill bridge_2
	each says_and_hears
}

# says_and_hears N: what A says there, B hears, but for the one that died.
says_and_hears()
{
	[ "$1" -ne 2 ] || { client_ends A_2; client_ends B_2; return; }
	client_say "A_$1" "for $1"
	client_hears "B_$1" "for $1"
}

# shellcheck source=/dev/null
. "$SHUNIT2"

#!/bin/sh
#
# Corners that were wrong once: a name with two addresses, and a terminal
# that stops who writes to it.
. "${0%/*}/lib.sh"

# named_start ADDRESS...: starts a bridge at port 0 of a name that has these
# addresses, in a mount namespace with a file of hosts of its own.
named_start()
{
	need unshare && need_root && need_native || return
	: >"$work/hosts"
	for address in "$@"; do
		echo "$address both.example" >>"$work/hosts"
	done
	bridge_under="unshare -m sh $work/named $work/hosts"
	cat >"$work/named" <<-'SCRIPT'
	mount --bind "$1" /etc/hosts || exit 3
	shift
	exec "$@"
	SCRIPT
	unshare -m sh "$work/named" "$work/hosts" true 2>"$work/named.err" ||
	    { skip "no mount namespace: $(cat "$work/named.err")" ||
	    return 1; }
	bridge_launch -4 -- both.example:0 127.0.0.1:0
}

# A port that is free at all addresses of this machine is not free at one of
# them any more.
test_port_0_of_a_name_whose_addresses_exclude_each_other_is_an_error()
{
	named_start 0.0.0.0 127.0.0.1 || return 0
	bridge_ends 1
	assertContains "$(cat "$log")" 'tcpbridge: side A: both.example: '
}

test_port_0_of_a_name_with_two_addresses_is_the_same_port()
{
	named_start 127.0.0.2 127.0.0.3 || return 0
	bridge_is_ready
	assertEquals "127.0.0.2:$port_A 127.0.0.3:$port_A " \
	    "$(sed -n 's/.*event=listen side=A addr=//p' "$log" | tr '\n' ' ')"
}

# The bridge in the background of a terminal on which only the foreground may
# write; the shell in the foreground looks at it after its first lines.
test_it_runs_in_the_background_of_a_terminal_with_tostop()
{
	need script && need_proc || return 0
	cat >"$work/foreground" <<-SCRIPT
	set -m
	stty tostop
	$TCPBRIDGE -- $host:0 $host:0 &
	sleep 1
	sed -n 's/^State:[^A-Z]*\([A-Z]\).*/\1/p' /proc/\$!/status >'$work/state'
	kill -CONT \$!
	kill \$!
	wait
	SCRIPT
	script -q -c "sh '$work/foreground'" /dev/null >"$work/screen" \
	    2>&1 </dev/null
	assertEquals 'state of the process' S "$(cat "$work/state")"
	assertContains "$(cat "$work/screen")" event=ready
}

# shellcheck source=/dev/null
. "$SHUNIT2"

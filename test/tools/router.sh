#!/bin/sh
#
# What a router has: busybox for a shell and for both clients, one static
# bridge, and nothing else.
#
#	router.sh BRIDGE	in a directory that it may write to
#
# Needs sh, nc, grep, sed, sleep, mkfifo, cat, rm and kill; no lib.sh, for
# there is no shunit2.  The last line is "N passed, N failed".
# shellcheck disable=SC2317 # check calls these
# shellcheck disable=SC2154,SC2034 # eval sets or reads these

bridge=$1
passed=0 failed=0
log=router.log
bridge_pid=

# check WHAT COMMAND...: waits up to 10 seconds for the command to succeed.
check()
{
	what=$1 left=100
	shift
	until "$@"; do
		left=$((left - 1))
		if [ $left -eq 0 ]; then
			echo "router: failed: $what"
			sed 's/^/    log: /' "$log"
			failed=$((failed + 1))
			return 1
		fi
		sleep 0.1 2>/dev/null || sleep 1
	done
	passed=$((passed + 1))
}

logged()
{
	grep -q "$1" "$log"
}

heard()
{
	[ "$(cat "$1.got")" = "$2" ]
}

totals_say()
{
	kill -USR1 "$bridge_pid" && logged "$1"
}

gone()
{
	! kill -0 "$1" 2>/dev/null
}

port()
{
	sed -n "s/.*event=listen side=$1 addr=.*:\([0-9]*\)\$/\1/p" "$log"
}

# come SIDE: a client dials that side; what is written to SIDE.say it says.
come()
{
	rm -f "$1.say" "$1.got"
	mkfifo "$1.say"
	nc 127.0.0.1 "$(port "$1")" <>"$1.say" >"$1.got" 2>/dev/null &
	eval "pid_$1=$!"
	eval "times_$1=\$((\${times_$1:-0} + 1))"
	eval "check \"a client at $1\" came $1 \$times_$1"
}

# came SIDE N: tells whether the bridge has taken so many there.
came()
{
	[ "$(grep -c "event=connect side=$1" "$log")" -ge "$2" ]
}

say()
{
	printf '%s' "$2" >"$1.say"
}

# leave SIDE: its client is killed, and the bridge has seen it.
leave()
{
	eval "kill -9 \$pid_$1; wait \$pid_$1" 2>/dev/null
	check "the client at $1 is seen to go" logged "event=disconnect side=$1"
}

# The clients end with the bridge.
finish()
{
	[ -z "$bridge_pid" ] || kill -9 "$bridge_pid"
	echo "$passed passed, $failed failed"
	[ $failed -eq 0 ]
	exit
}

start()
{
	times_A=0 times_B=0
	: >"$log"
	"$bridge" -m 0 127.0.0.1:0 127.0.0.1:0 2>>"$log" &
	bridge_pid=$!
	check 'the bridge is ready' logged event=ready || finish
	check 'metrics need no name' logged 'service=metrics addr=127.0.0.1:'
}

stop()
{
	kill "$bridge_pid"
	check 'the bridge ends' gone "$bridge_pid"
	wait "$bridge_pid"
	check 'with status 0' [ $? -eq 0 ]
	bridge_pid=
	check 'and says so' logged 'event=stop signal=SIGTERM'
}

for first in A B; do
	second=A
	[ "$first" = B ] || second=B
	start
	come "$first"
	say "$first" 'before; '
	come "$second"
	check "$second gets what waited" heard "$second" 'before; '
	say "$second" 'hello '
	check "$first hears $second" heard "$first" 'hello '
	leave "$second"
	say "$first" 'meanwhile; '
	say "$first" 'and then'
	check 'it is held' totals_say "dir=$first->$second .* held=19 "
	come "$second"
	check "$second resumes" heard "$second" 'meanwhile; and then'
	say "$second" 'again'
	check "$first never noticed" heard "$first" 'hello again'
	check "$first was not dropped" [ "$(grep -c "disconnect side=$first" "$log")" -eq 0 ]
	come "$second"
	say "$second" '!'
	check "$second was replaced" logged "side=$second .* reason=replaced"
	check "$first hears the new one" heard "$first" 'hello again!'
	stop
done
finish

#!/bin/sh
#
# System calls that fail.  strace makes one of them fail, once or from some
# moment on; each test asserts that this happened.  What fails at start ends
# the bridge with one clear line; what fails later ends at most one client.
#
# Calls are named as strace and each system know them; of the names in a set
# those that do not exist are skipped.
# shellcheck disable=SC2034 # some variables are for lib.sh
. "${0%/*}/lib.sh"

accept='?accept,?accept4'
recv='?recv,?recvfrom'
send='?send,?sendto'
fcntl='?fcntl,?fcntl64'
wait='?pselect6,?pselect6_time64'
trace=$work/trace
injectable=

# No leak checker runs in a process that is traced.
ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0
export ASAN_OPTIONS

# need_inject: strace that may attach itself, and a bridge that it can see; what
# was so once stays so.
need_inject()
{
	need_linux && need_proc && need strace && need_native || return 1
	[ -z "$injectable" ] || return 0
	bridge_start
	strace -qq -o "$trace" -e inject=close:error=EIO -p "$bridge_pid" \
	    2>"$work/strace.err" &
	tracer=$!
	! wait_until 5 is_traced "$bridge_pid" || injectable=yes
	end_process $tracer
	bridge_kill
	[ -n "$injectable" ] || skip "strace can't: $(cat "$work/strace.err")"
}

is_traced()
{
	grep -q '^TracerPid:.*[1-9]' "/proc/$1/status"
}

# start_under CALLS ERROR WHEN [ARGUMENTS]: starts a bridge with that fault.
# strace is the child, so the bridge keeps its number.
start_under()
{
	calls=$1 error=$2 when=$3
	shift 3
	rm -f "$trace"
	bridge_under="strace -D -qq -o $trace $*
	    -e inject=$calls:error=$error:when=$when"
	bridge_start
}

# Its first call may have been the bridge's last.
tracer_works()
{
	is_traced "$bridge_pid" || [ -s "$trace" ]
}

# inject CALLS ERROR WHEN [ARGUMENTS]: makes calls of the bridge fail that
# runs, counted from now.
inject()
{
	calls=$1 error=$2 when=$3
	shift 3
	rm -f "$trace"
	strace -qq -o "$trace" -p "$bridge_pid" "$@" \
	    -e "inject=$calls:error=$error:when=$when" 2>>"$work/strace.err" &
	wait_until 5 tracer_works
	assertTrue 'strace is not there' $?
}

# injected [N]: asserts that so many calls failed, or more.
injected()
{
	wait_until 5 has_injected "${1:-1}"
	assertTrue "$calls did not fail with $error" $?
}

has_injected()
{
	[ "$(grep -c INJECTED "$trace")" -ge "$1" ]
}

# start_fails CALLS ERROR WHEN TEXT: asserts that this ends the start in one
# line.
start_fails()
{
	rm -f "$trace"
	TCPBRIDGE="strace -I2 -qq -o $trace -e inject=$1:error=$2:when=$3 $native"
	bridge_run -q "$host:0" "$host:0"
	assert_refuses 1 "$4"
	grep -q INJECTED "$trace"
	assertTrue "$1 did not fail with $2" $?
}

# Of the calls for two listeners, those for the first and for the second.
test_a_start_that_fails_says_why_in_one_line()
{
	need_inject || return 0
	native=$TCPBRIDGE
	for nth in 1 2; do
		start_fails socket EMFILE $nth 'Too many open files'
		start_fails socket EACCES $nth 'Permission denied'
		start_fails socket EAFNOSUPPORT $nth 'Address family'
		start_fails bind EADDRINUSE $nth 'Address already in use'
		start_fails bind EACCES $nth 'Permission denied'
		start_fails listen EADDRINUSE $nth 'Address already in use'
		start_fails getsockname ENOBUFS $nth 'No buffer space'
	done
	for nth in 1 2 3 4 5 6; do
		start_fails "$fcntl" EBADF $nth 'Bad file descriptor'
	done
	TCPBRIDGE=$native
}

# it_works: asserts that two new clients hear each other within 2 seconds.
it_works()
{
	client_dial A && client_dial B
	client_say A 'from A'
	client_hears B 'from A' 2
	client_say B 'from B'
	client_hears A 'from B' 2
}

# it_ends: asserts that it is in its right mind, and goes when asked.
it_ends()
{
	assert_accounted
	clients_end
	bridge_stop
	refute_log '^tcpbridge: '
}

test_options_that_sockets_refuse_are_done_without()
{
	need_inject || return 0
	start_under setsockopt EOPNOTSUPP 1+ || return
	it_works
	injected 6
	it_ends
}

# A closed standard descriptor needs a /dev/null in its place.
test_closed_descriptors_without_dev_null_end_the_start()
{
	need_inject || return 0
	bridge_before='exec <&-'
	bridge_under="strace -I2 -qq -o $trace -P /dev/null
	    -e inject=?open,openat:error=EMFILE"
	bridge_launch
	bridge_ends 1
	calls='open /dev/null' error=EMFILE
	injected
	assertEquals 'lines' 1 "$(log_count '^tcpbridge: /dev/null: Too many')"
}

# The client stays in the backlog, and nothing need be said.
test_a_passing_failure_of_accept_is_nothing()
{
	need_inject || return 0
	for error in EINTR EAGAIN ECONNABORTED; do
		bridge_start && inject "$accept" $error 1 || return
		it_works
		injected
		refute_log 'level=warn'
		it_ends
	done
}

# Linux delivers no signal in a pselect() that finds something ready at once.
test_a_stop_is_heard_while_something_is_always_ready()
{
	need_inject || return 0
	bridge_start && inject "$accept" ECONNABORTED 1+ || return
	client_dial A
	wait_until 5 grep -q INJECTED "$trace"
	kill -TERM "$bridge_pid"
	wait_log 'event=stop signal=SIGTERM' 5
	injected
}

# These would be reported at once again and again, so the listener rests.
test_accept_without_resources_rests_for_a_second()
{
	need_inject || return 0
	for error in EMFILE ENOMEM; do
		bridge_start && inject "$accept" $error 1 || return
		client_dial A
		wait_log 'level=warn event=accept_failed side=A error='
		client_dial B
		client_say B "$error"
		client_hears A "$error" 2
		injected
		assertEquals 'warnings' 1 "$(log_count 'level=warn')"
		it_ends
	done
}

# Both clients come, are served, and only newcomers wait.
test_accept_that_fails_for_ever_does_not_spin()
{
	need_inject || return 0
	bridge_start && inject "$accept" EMFILE 3+ || return
	client_open A && client_open B || return
	client_dial A late
	wait_log 'event=accept_failed side=A'
	assert_idle
	client_say A 'still here'
	client_hears B 'still here'
	injected
	assertEquals 'warnings' 1 "$(log_count 'level=warn')"
	it_ends
}

test_a_newcomer_that_can_not_be_prepared_is_refused()
{
	need_inject || return 0
	for nth in 1 2; do
		bridge_start && inject "$fcntl" EBADF $nth || return
		client_dial A
		wait_log 'event=refuse side=A peer=127.* reason=limit'
		client_ends A
		injected
		it_works
		it_ends
	done
}

test_a_passing_failure_of_recv_or_send_is_nothing()
{
	need_inject || return 0
	for call in "$recv" "$send"; do
		for error in EAGAIN EINTR; do
			bridge_start && inject "$call" $error 1 || return
			it_works
			injected
			refute_log 'event=disconnect'
			it_ends
		done
	done
}

# disconnect_reason ERROR: prints what the log should say about it.
disconnect_reason()
{
	case $1 in
	ECONNRESET|EPIPE) echo 'reason=reset' ;;
	ETIMEDOUT) echo 'reason=timeout cause=keepalive' ;;
	*)	echo 'reason=error error="' ;;
	esac
}

# costs CALLS ERROR SIDE: A says something to B, and since one of these calls
# fails then, the client of that side is gone.
costs()
{
	bridge_start && inject "$1" "$2" 1 || return
	client_open A && client_open B || return
	client_say A 'last words'
	wait_log "disconnect side=$3 .* $(disconnect_reason "$2")"
	injected
}

# What the client had sent is still read.
test_a_failed_recv_ends_that_client_and_loses_nothing()
{
	need_inject || return 0
	for error in ECONNRESET ETIMEDOUT EHOSTUNREACH; do
		costs "$recv" $error A || return
		client_hears B 'last words' 2
		client_stays B
		client_open A && client_say B 'answer'
		client_hears A 'answer' 2
		it_ends
	done
}

# The bytes were not taken, so the next client gets them.
test_a_failed_send_ends_that_client_and_loses_nothing()
{
	need_inject || return 0
	for error in EPIPE ETIMEDOUT ENOBUFS; do
		costs "$send" $error B || return
		client_stays A
		client_open B && client_hears B 'last words' 2
		it_ends
	done
}

test_what_can_not_be_sent_is_held_for_whoever_comes()
{
	need_inject || return 0
	bridge_start && inject "$send" ECONNRESET 1+ || return
	client_open A || return
	client_say A 'undelivered'
	for visitor in one two three; do
		client_dial B $visitor
	done
	client_lost B 3
	injected 3
	wait_total 11 held 'A->B'
	client_stays A
	it_ends
}

# A client that is read in vain is not read again and again.
test_recv_that_fails_for_ever_ends_every_client_and_not_the_bridge()
{
	need_inject || return 0
	bridge_start && inject "$recv" EIO 1+ || return
	for visitor in one two three; do
		client_open A $visitor && client_say $visitor 'lost'
		client_lost A
		client_open B $visitor && client_say $visitor 'lost'
	done
	client_lost A 3
	client_lost B 3
	injected 6
	assert_idle
	it_ends
}

# On Linux the descriptor is free also after EINTR, and may be another
# client's when it is closed a second time.
test_a_failed_close_is_not_repeated()
{
	need_inject || return 0
	for error in EINTR EIO; do
		bridge_start && inject close $error 1+ \
		    -e trace=close,accept,accept4 || return
		client_open A one && client_kill one
		client_lost A
		it_works
		injected
		repeated=$(sed -n 's/^close(\([0-9]*\)) .* INJECTED.*/\1/p' "$trace" |
		    sort | uniq -d)
		assertNull "closed twice: $repeated" "$repeated"
		it_ends
	done
}

# Bytes that wait for A make it ask what A has acknowledged.
test_it_works_where_nobody_tells_what_is_acknowledged()
{
	need_inject || return 0
	bridge_start && inject ioctl ENOTTY 1+ || return
	bridge_busy=yes
	client_open A && client_open B || return
	client_freeze A
	head -c 8000000 /dev/zero >"$work/B.fifo"
	wait_log 'event=drop'
	injected
	client_kill A
	client_lost A
	bridge_stop
}

test_a_failed_shutdown_does_not_keep_it_from_ending()
{
	need_inject || return 0
	bridge_start && inject shutdown ENOTCONN 1+ || return
	client_open A && client_open B || return
	bridge_stop
	injected 2
	wait_log 'event=stop'
}

test_an_interrupted_wait_is_nothing()
{
	need_inject || return 0
	for round in one two three; do
		bridge_start && inject "$wait" EINTR 1 || return
		injected
		it_works
		it_ends
	done
}

# There is nothing it could do without.
test_a_wait_that_fails_ends_it_with_one_line()
{
	need_inject || return 0
	for error in EBADF EINVAL ENOMEM; do
		bridge_start && inject "$wait" $error 1+ || return
		client_dial A
		bridge_ends 1
		injected
		assertEquals 'lines' 1 "$(log_count '^tcpbridge: pselect: ')"
	done
}

test_a_line_that_can_not_be_written_is_counted()
{
	need_inject || return 0
	for error in EIO EAGAIN EPIPE; do
		bridge_start && inject write $error 1 || return
		client_dial A
		injected
		client_open B || return
		wait_log 'level=warn event=log_lost lines=1$'
		client_say A 'unheard of'
		client_hears B 'unheard of' 2
		it_ends
	done
}

test_a_log_that_fails_for_ever_costs_no_client()
{
	need_inject || return 0
	bridge_start && inject write EIO 1+ || return
	it_works
	injected 2
	kill -TERM "$bridge_pid"
	bridge_ends 0
}

test_two_inherited_descriptors_less_than_select_takes_are_enough()
{
	need_native || return 0
	need_peer || return 0
	# shellcheck disable=SC3045 # every shell has it
	(ulimit -n 1100) 2>/dev/null ||
	    { skip 'no 1100 descriptors allowed'; return 0; }
	bridge_before='ulimit -n 1100'
	bridge_under="$PEER inherit 1018"
	bridge_start || return
	it_works
	it_ends
}

test_a_peer_killed_in_the_middle_of_a_stream_is_replaced()
{
	make_bytes "$work/half" 3000000
	for s in A B; do
		face "$s"
		bridge_start
		client_open "$other" || return
		client_open "$side" || return
		client_feed "$side" "$work/half"
		wait_until 10 test -s "$work/$other.got"
		client_kill "$side"
		client_lost "$side"
		client_open "$side" again && client_stays "$other" "$other"
		client_say "$other" 'who is there?'
		client_hears again 'who is there?'
		wait_total 0 held "$dir"
		assertEquals 'what was sent' "$(size "$work/$other.got")" \
		    "$(total sent "$dir")"
		assertEquals 'a beginning' "$(cksum <"$work/$other.got")" \
		    "$(head -c "$(total sent "$dir")" "$work/half" | cksum)"
	done
}

# shellcheck source=/dev/null
. "$SHUNIT2"

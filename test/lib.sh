# shellcheck shell=sh
#
# What every suite stands on: a bridge under test, clients on both its sides,
# waiting with a deadline, and the checks that hold for any run.
#
# A suite is a file test/NAME_test.sh:
#
#	#!/bin/sh
#	. "${0%/*}/lib.sh"
#
#	test_what_holds_as_a_sentence()
#	{
#		bridge_start -b 1k
#		client_open A && client_open B || return
#		client_say A 'ping'
#		client_hears B 'ping'
#	}
#
#	. "$SHUNIT2"
#
# It needs a POSIX shell, mktemp, head -c, socat, and shunit2 2.1.6 or later.
# nc is used where it is the point of the test (see client_with), and must
# then be the flavour that has -N.  Everything made here is in $work and goes
# with the suite; everything started here is recorded and ended.  tearDown
# prints the bridge's log when a test failed.
#
# Environment:
#	TCPBRIDGE	the command under test, split at spaces
#	SHUNIT2		where shunit2 is
#	PATIENCE	factor for deadlines and budgets on a slow machine (1)
#	TESTS		the names of the tests to run (all)
#	PEER		a built test/tools/peer.c; made by need_peer otherwise
#	WITNESS		a built test/tools/witness.c; made by test/run; without
#			it the shell looks itself, which costs more processes
#	CC		the compiler for PEER

here=$(cd "${0%/*}" && pwd) || exit 1
tests=${here%/tools}	# this file is for the tools, too
TCPBRIDGE=${TCPBRIDGE:-$tests/../tcpbridge}
PATIENCE=${PATIENCE:-1}
PEER=${PEER:-}
WITNESS=${WITNESS:-}
SHUNIT_COLOR=${SHUNIT_COLOR:-none}
work=$(mktemp -d "${TMPDIR:-/tmp}/tcpbridge.XXXXXX") || exit 1
log=$work/log
: >"$log"
mkfifo "$work/never" || exit 1	# nobody ever writes there

if [ -z "${SHUNIT2:-}" ]; then
	for SHUNIT2 in "$(command -v shunit2)" /usr/share/shunit2/shunit2 \
	    /usr/local/bin/shunit2 /opt/homebrew/bin/shunit2; do
		[ -f "$SHUNIT2" ] && break
	done
fi
if ! [ -f "$SHUNIT2" ]; then
	echo 'lib.sh: no shunit2: run make deps, or set SHUNIT2' >&2
	exit 1
fi

# A process that only counts or compares bytes needs no language.
LC_ALL=C
export LC_ALL

# Fractions of a second are not in POSIX, but shorten the waiting a lot.
if sleep 0.01 2>/dev/null; then
	nap=0.05
else
	nap=1
fi

# Suites run side by side, and a port that one has given up is soon another's;
# who still dialled it would be a stranger there.  So where all of 127.0.0.0/8
# is this machine, as on Linux, each has an address of its own, made of its
# process number.  Its clients come from 127.0.0.1 all the same.
host=127.$((128 + $$ / 65536 % 64)).$(($$ / 256 % 256)).$(($$ % 256))
socat -u OPEN:/dev/null "UDP:127.0.0.1:9,bind=$host" 2>/dev/null ||
    host=127.0.0.1
PEER_HOST=$host
export PEER_HOST

# ---- the witness ----

# It is one process for the suite, and looks for it at logs, files and processes:
# a question goes to descriptor 8, and its answer comes from 9.  Neither is for
# a bridge or a client.
separator=$(printf '\037')
if [ -n "$WITNESS" ]; then
	mkfifo "$work/witness.asked" "$work/witness.said" || exit 1
	"$WITNESS" <"$work/witness.asked" >"$work/witness.said" &
	witness=$!
	exec 8>"$work/witness.asked" 9<"$work/witness.said"
fi

# look WORD...: asks the witness; sets $looked to the value in its answer, and
# returns the status in it.  The words are in the head of witness.c.
look()
{
	look_for=
	for look_word in "$@"; do
		look_for=$look_for$look_word$separator
	done
	print_line "$look_for" >&8
	looked=
	IFS=' ' read -r look_status looked <&9 || return 2
	return "$look_status"
}

# print_line TEXT: as it is, by the shell itself.
if [ -n "${KSH_VERSION:-}" ]; then
	print_line() { print -r -- "$1"; }
else
	print_line() { printf '%s\n' "$1"; }
fi

# ---- waiting ----

# wait_until SECS COMMAND...: repeats COMMAND until it succeeds, or fails at
# the deadline.  The seconds are counted in naps, not by the clock: a machine
# with too little time for all makes each nap and each try longer, and so the
# deadline comes later.  Every wait is made of this one.
wait_until()
{
	wait_left=$(($1 * 100 * PATIENCE))
	wait_nap=2
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$wait_left" -gt 0 ] || return 1
		nap "$wait_nap"
		wait_left=$((wait_left - wait_nap))
		[ "$wait_nap" -ge 25 ] || wait_nap=$((wait_nap * 2))
	done
}

# The witness's naps are as long on a busy machine, for it does nothing between
# them.  So it gets four times the time: what a deadline is for is a test that
# hangs.
witness_second=$((400 * PATIENCE))	# of a deadline, hundredths

# nap N: sleeps for so many hundredths of a second, less than 100.
nap()
{
	if [ -n "$WITNESS" ]; then
		look nap "$1"
	elif [ "$nap" = 1 ]; then
		sleep 1
		wait_nap=100
	elif [ "$1" -lt 10 ]; then
		sleep "0.0$1"
	else
		sleep "0.$1"
	fi
}

# wait_log PATTERN [SECS]: asserts that a line of the log matches in time.
wait_log()
{
	log_gets 1 "$1" "${2:-10}"
	assertTrue "the log has no line '$1'" $?
}

# wait_count N PATTERN [SECS]: asserts that N lines match in time.
wait_count()
{
	log_gets "$1" "$2" "${3:-10}"
	assertTrue "the log has no $1 lines '$2'" $?
}

# log_gets N PATTERN SECS: waits until N lines match.  Naps by itself, for
# wait_until may call it.
log_gets()
{
	if [ -n "$WITNESS" ]; then
		look wait "$log" "$1" "$2" $(($3 * witness_second))
		return
	fi
	gets_left=$(($3 * 100 * PATIENCE))
	until log_has "$1" "$2"; do
		[ "$gets_left" -gt 0 ] || return 1
		nap 5
		gets_left=$((gets_left - 5))
	done
}

# log_look PATTERN: sets $looked to how many lines match.
log_look()
{
	if [ -n "$WITNESS" ]; then
		look count "$log" "$1"
	else
		looked=$(grep -c -e "$1" "$log")
	fi
}

# log_count PATTERN: prints how many lines match.
log_count()
{
	log_look "$1"
	print_line "$looked"
}

# log_has N PATTERN: tells whether at least N lines match.
log_has()
{
	log_look "$2"
	[ "$looked" -ge "$1" ]
}

# log_value KEY PATTERN: prints KEY of the last line that matches, unquoted.
log_value()
{
	if [ -n "$WITNESS" ]; then
		! look value "$log" "$1" "$2" || print_line "$looked"
		return
	fi
	sed -n -e "\\~$2~h" -e '$!d' -e g \
	    -e "s/.* $1=\"\([^\"]*\)\".*/\1/p" -e t \
	    -e "s/.* $1=\([^ \"]*\).*/\1/p" "$log"
}

# is_in_time SECS TOOK: tells whether it took that long and less than two
# seconds more.  A wait from which a busy machine woke the bridge too late does
# not count for it, as the log says under -v.
is_in_time()
{
	awk -v least="$1" -v took="$2" -v patience="$PATIENCE" '
	sub(/.* event=pause waited=/, "") { paused += $0 }
	END { exit !(took >= least && took < least + paused + 2 * patience) }
	' "$log"
}

# log_span FROM TO: prints the seconds from the first line that matches FROM to
# the last one that matches TO, by the clock of the log.
log_span()
{
	awk -v from="$1" -v to="$2" '
	function clock(part) {
		split(substr($1, 17), part, /[:Z]/)
		return part[1] * 3600 + part[2] * 60 + part[3]
	}
	$0 ~ from && began == "" { began = clock() }
	$0 ~ to { ended = clock() }
	END { print ended - began + (ended < began ? 86400 : 0) }' "$log"
}

# assert_span SECS FROM TO: asserts that it is that long, and less than two
# seconds more.  A line is stamped a moment after what it tells.
assert_span()
{
	span=$(log_span "$2" "$3")
	is_in_time "$1" "$(awk "BEGIN { print $span + 0.05 * $PATIENCE }")"
	assertTrue "$3 came $span s after $2" $?
}

# refute_log PATTERN: asserts that no line matches so far.
refute_log()
{
	! log_has 1 "$1"
	assertTrue "the log has a line '$1'" $?
}

# ---- processes ----

# Numbers of processes are used again, on a busy machine within a minute; so
# that nobody else is taken for a child that has ended, or is killed in its
# place, a number means a child of this shell and nothing else.

# is_alive PID: tells whether that child runs; a stopped one does, none does not.
is_alive()
{
	[ -n "$1" ] || return 1
	if [ -r /proc/self/status ]; then
		is_child "$1"
	else
		kill -0 "$1" 2>/dev/null
	fi
}

# proc_stat PID: sets $stat to what Linux's /proc/PID/stat says after the name:
# state, parent, ...  One read, for bash reads the file anew for each line, and
# what stands before may have got longer.
proc_stat()
{
	{ read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
	stat=${stat##*) }
}

# is_child PID: reads Linux's /proc, and starts no process, for in that time
# the child could end and its number be free.
is_child()
{
	proc_stat "$1" || return 1
	stat=${stat#* }
	[ "${stat%% *}" -eq $$ ]
}

is_dead()
{
	! is_alive "$1"
}

# tell SIGNAL PID: sends it to that child, if it lives.
tell()
{
	is_alive "$2" && kill "-$1" "$2" 2>/dev/null
}

# dies SECS PID: waits until that child does not run any more.
dies()
{
	if [ -n "$WITNESS" ] && [ -r /proc/self/stat ] && is_alive "$2"; then
		look dead $$ "$2" $(($1 * witness_second))
	else
		wait_until "$1" is_dead "$2"
	fi
}

# end_process PID: kills it, stopped or not, and waits for it.
end_process()
{
	[ -n "$1" ] || return 0
	tell KILL "$1"
	wait "$1" 2>/dev/null
	return 0
}

# clock_read: sets $clock to the hundredths of a second since the machine began,
# or by the day's clock where that is not known.
clock_read()
{
	if read -r clock _ 2>/dev/null </proc/uptime; then
		clock=${clock%.*}${clock#*.}
	else
		clock=$(date +%s)00
	fi
}

# ---- sides ----

# face SIDE: sets $side, $other, $dir (what side sends) and $back (what it is
# sent), so that a test written for one side holds for both:
#	for s in A B; do face $s; ...; done
# shellcheck disable=SC2034 # for the suites
face()
{
	side=$1
	case $side in
	A) other=B ;;
	*) other=A ;;
	esac
	dir="$side->$other"
	back="$other->$side"
}

# port SIDE: prints its port.
port()
{
	case $1 in
	A) echo "$port_A" ;;
	*) echo "$port_B" ;;
	esac
}

# ---- the bridge ----

# What bridge_start does differently for one test; setUp clears them.
#	bridge_before	shell code run in the new process: 'ulimit -n 6'
#	bridge_under	command words before $TCPBRIDGE: "$PEER plain"
#	bridge_busy	not empty: it may use as much CPU as it likes
# And what it leaves behind besides bridge and clients:
#	undo		shell code run at its end: 'net_close'
bridge_pid=
port_A=
port_B=

# bridge_start [OPTIONS] [-- HOST:PORT HOST:PORT]: ends what runs, starts a
# bridge with $log as standard error and $work/out as standard output, on
# free ports of $host if no operands are given; sets $bridge_pid, $port_A and
# $port_B when the log says that it is ready.
# shellcheck disable=SC2120 # the suites give arguments
bridge_start()
{
	bridge_launch "$@"
	bridge_is_ready
}

bridge_is_ready()
{
	wait_until 10 ports_logged
	assertTrue 'the bridge is not ready' $?
}

# bridge_launch: like bridge_start, but doesn't wait.
bridge_launch()
{
	clients_end
	bridge_stop
	case " $* " in
	*' -- '*) ;;
	*) set -- "$@" -- "$host:0" "$host:0" ;;
	esac
	: >"$log"
	(
		eval "${bridge_before:-:}"
		# shellcheck disable=SC2086 # both are lists of words
		exec $bridge_under $TCPBRIDGE "$@"
	) </dev/null >"$work/out" 2>>"$log" 8>&- 9<&- &
	bridge_pid=$!
}

# ports_logged: sets $port_A and $port_B to those in the first listen line of
# each side; fails if the log does not say that the bridge is ready.
ports_logged()
{
	port_A=
	port_B=
	while read -r logged; do
		case $logged in
		*' event=listen side=A '*) port_A=${port_A:-${logged##*:}} ;;
		*' event=listen side=B '*) port_B=${port_B:-${logged##*:}} ;;
		*' event=ready '*) return 0 ;;
		esac
	done <"$log"
	return 1
}

# bridge_start_at PORT HOST: like bridge_start, at the first free ports of the
# host from this one on.  They stay its own also while no bridge has them, if
# the kernel, asked for any port, gives higher ones.  PORT is one number for
# $host and another one for all addresses, since the latter include the former.
bridge_start_at()
{
	if [ "$(kernels_port)" -lt $(($1 + 200)) ]; then
		bridge_start -- "$2:0" "$2:0"
		return
	fi
	at=$1
	bridge_launch -- "$2:$at" "$2:$((at + 1))"
	while bridge_is_late && [ "$at" -lt $(($1 + 198)) ]; do
		bridge_kill
		at=$((at + 2))
		bridge_launch -- "$2:$at" "$2:$((at + 1))"
	done
	bridge_is_ready
}

# bridge_is_late: tells whether somebody else has its ports.
bridge_is_late()
{
	wait_until 10 grep -q -e 'event=ready' -e 'in use' "$log"
	grep -q 'in use' "$log"
}

# kernels_port: prints the lowest port that it gives unasked, or 0.
kernels_port()
{
	awk '{ print $1 }' /proc/sys/net/ipv4/ip_local_port_range \
	    2>/dev/null || echo 0
}

# free_ports: sets $port_A and $port_B to ports of $host for a bridge whose
# log can't be read, or for one that starts there again.
free_ports()
{
	bridge_start_at 20000 "$host" && bridge_stop
}

# blind_start [OPTIONS]: starts a bridge whose log can't be read, or does not
# say that it is ready, and waits until it answers.
# shellcheck disable=SC2120 # the suites give arguments
blind_start()
{
	blind_before=$bridge_before
	bridge_before=
	free_ports
	bridge_before=$blind_before
	bridge_launch "$@" -- "$host:$port_A" "$host:$port_B"
	for blind in A B; do
		wait_until 10 socat -u OPEN:/dev/null "TCP:$host:$(port $blind)"
		assertTrue "nobody answers at side $blind" $? || return
	done
}

# bridge_stop: ends the bridge with SIGTERM; asserts status 0, what
# log_check asserts, and that it did not spin.
bridge_stop()
{
	[ -n "$bridge_pid" ] || return 0
	tell CONT "$bridge_pid"
	bridge_check_cpu
	tell TERM "$bridge_pid"
	bridge_ends 0 && log_check
}

# bridge_ends [STATUS]: asserts that it ends by itself in 5 seconds, with that
# status; else kills it.
bridge_ends()
{
	dies 5 "$bridge_pid"
	if ! assertTrue 'the bridge does not end' $?; then
		tell KILL "$bridge_pid"
	fi
	wait "$bridge_pid" 2>/dev/null
	bridge_status=$?
	bridge_pid=
	assertEquals 'exit status of the bridge' "${1:-0}" "$bridge_status"
}

# bridge_kill: ends it with SIGKILL, with nothing asserted.
bridge_kill()
{
	end_process "$bridge_pid"
	bridge_pid=
}

# bridge_freeze, bridge_thaw: stops it, and lets it go on.
bridge_freeze()
{
	tell STOP "$bridge_pid"
	[ ! -r /proc/self/stat ] || wait_until 5 is_stopped "$bridge_pid"
}

is_stopped()
{
	proc_stat "$1" || return 1
	case $stat in
	[Tt]*) ;;		# t under a tracer
	*) return 1 ;;
	esac
}

bridge_thaw()
{
	tell CONT "$bridge_pid"
}

# bridge_run ARGUMENTS: runs the command to its end, which must come in 10
# seconds; sets $bridge_status, $work/stdout and $work/stderr.
bridge_run()
{
	# shellcheck disable=SC2086 # lists of words
	$deadline $TCPBRIDGE "$@" </dev/null >"$work/stdout" \
	    2>"$work/stderr" 8>&- 9<&-
	bridge_status=$?
}

# timeout is not in POSIX; without it a run that should end may hang.
deadline=
if timeout 1 true 2>/dev/null; then
	deadline="timeout $((10 * PATIENCE))"
fi

# assert_refuses STATUS TEXT...: asserts that bridge_run ended with that
# status, and with one line on standard error that has all of these texts.
# One assertion for all, for they are many; and a shell can read a line.
assert_refuses()
{
	wrong=
	{
		read -r refusal || wrong='no line,'
		! read -r _ || wrong='more lines,'
	} <"$work/stderr"
	[ "$bridge_status" -eq "$1" ] || wrong="$wrong status $bridge_status,"
	[ ! -s "$work/stdout" ] || wrong="$wrong standard output,"
	shift
	for part in 'tcpbridge: ' "$@"; do
		case $refusal in
		*"$part"*) ;;
		*) wrong="$wrong no '$part'," ;;
		esac
	done
	assertNull "$wrong in: $refusal" "$wrong"
}

# cpu_ticks PID: sets $ticks to the processor time used, in hundredths of a
# second, and $born to when it began, in the same since the machine did.
cpu_ticks()
{
	proc_stat "$1" || return 1
	# shellcheck disable=SC2086 # words
	set -- $stat
	shift 11
	ticks=$(($1 + $2))
	born=$9
}

# A bridge that spins uses all the time there is, or half of it on a busy
# machine; one that works in these tests uses hardly any.  Where it is slow,
# as under valgrind, what costs it time is in the log.
bridge_check_cpu()
{
	[ -r /proc/uptime ] && [ -z "$bridge_busy" ] &&
	    cpu_ticks "$bridge_pid" || return 0
	clock_read
	cpu_budget=$(((clock - born) / 5 + 50 * PATIENCE))
	[ "$ticks" -gt "$cpu_budget" ] || return 0
	cpu_budget=$((cpu_budget + (PATIENCE - 1) * $(log_count .) / 4))
	[ "$ticks" -le "$cpu_budget" ] ||
	    fail "the bridge used $ticks ticks of CPU of $cpu_budget"
}

# assert_idle: asserts that the bridge uses no CPU to speak of for a second.
assert_idle()
{
	need_proc || return 0
	cpu_ticks "$bridge_pid"
	idle_from=$ticks
	sleep 1
	cpu_ticks "$bridge_pid"
	[ $((ticks - idle_from)) -le 10 ]
	assertTrue "$((ticks - idle_from)) ticks of CPU in an idle second" $?
}

# memory_kib: prints the resident memory of the bridge.
memory_kib()
{
	awk '/^VmRSS:/ { print $2 }' "/proc/$bridge_pid/status"
}

# descriptors: prints how many descriptors the bridge has open.
descriptors()
{
	set -- /proc/"$bridge_pid"/fd/*
	echo $#
}

# ---- totals ----

# totals_come: makes the bridge log its totals, and waits for the four lines.
totals_come()
{
	is_alive "$bridge_pid" || return 1
	if [ -n "$WITNESS" ]; then
		look totals "$log" "$bridge_pid" $((5 * witness_second))
		return
	fi
	totals_lines=$(log_count 'event=stats')
	tell USR1 "$bridge_pid" && log_gets $((totals_lines + 4)) event=stats 5
}

# totals_ask: asserts that they come.
totals_ask()
{
	totals_come
	assertTrue 'no totals after SIGUSR1' $?
}

# total KEY DIR: prints that value of the last totals in the log.
total()
{
	log_value "$1" "event=stats dir=$2 "
}

# total_is VALUE KEY DIR: asks, and tells whether it is that; sets $value.
total_is()
{
	totals_come || return 1
	value=$(total "$2" "$3")
	[ "$value" = "$1" ]
}

# wait_total VALUE KEY DIR [SECS]: asserts that a total gets there in time.
wait_total()
{
	value=
	wait_until "${4:-10}" total_is "$1" "$2" "$3"
	assertEquals "$2 of $3" "$1" "$value"
}

# assert_accounted: asserts that the totals of now add up.
assert_accounted()
{
	totals_ask && log_check
}

# log_check: asserts that each line of the log is well formed, and that in
# each line of totals received = sent + dropped + held.  awk counts beyond
# 2^31 where some shells don't.
log_check()
{
	log_faults=$(awk '
	function value(key, i, pair) {
		for (i = 1; i <= NF; i++)
			if (split($i, pair, "=") == 2 && pair[1] == key)
				return pair[2]
		return "none"
	}
	!/^time=[0-9:T.-]+Z level=(error|warn|info|debug) / ||
	    !/ event=[a-z_]+( [a-z_]+=("[^"]*"|[^" ]+))*$/ {
		print "not logfmt: " $0
	}
	/ event=stats dir=/ && value("received") != \
	    value("sent") + value("dropped") + value("held") {
		print "does not add up: " $0
	}' "$log")
	[ -z "$log_faults" ]
	assertTrue "$log_faults" $?
}

# ---- clients ----

# Each has a name: its side, unless given.  What it says goes through a FIFO
# that a second process holds open, from before it is there; what it hears is
# in $work/NAME.got.  The FIFO is used again by the next client of that name,
# so whoever still writes to it has to end with the client: client_feed,
# client_pour and client_gush see to that.
clients=
client_with=socat

# client_open SIDE [NAME [OPTIONS]]: dials that side, and waits until the
# bridge has taken it.  OPTIONS are socat's for the address: linger=0, ...
client_open()
{
	opened=$(log_count "event=connect side=$1")
	client_dial "$@"
	log_gets $((opened + 1)) "event=connect side=$1" 10
	assertTrue "no client ${2:-$1} at side $1" $?
}

# client_dial SIDE [NAME [OPTIONS]]: dials, and doesn't wait.
client_dial()
{
	client_kill "${2:-$1}"
	client_fifo=$work/${2:-$1}.fifo
	[ -p "$client_fifo" ] || mkfifo "$client_fifo"
	: >"$work/${2:-$1}.got"
	# No program is needed to wait for ever.
	{ read -r _ <"$work/never" & } 3<>"$client_fifo"
	eval "holder_${2:-$1}=$!"
	client_run "$(port "$1")" "${3:-}" \
	    <"$client_fifo" >"$work/${2:-$1}.got" 2>"$work/${2:-$1}.err" \
	    8>&- 9<&- &
	eval "client_${2:-$1}=$!"
	clients="$clients ${2:-$1}"
}

# pair_start [OPTIONS]: starts a bridge with a client on each side, session 1 at
# $side and session 2 at $other: A and B, if the test does not face one.
pair_start()
{
	bridge_start "$@" && client_open "$side" && client_open "$other"
}

# stuck_start SIDE [OPTIONS]: the same, and the client of SIDE reads nothing.
stuck_start()
{
	stuck=$1
	shift
	pair_start "$@" && client_freeze "$stuck"
}

# sipper_open SIDE BYTES MS [RCVBUF]: a client of that side reads so many bytes
# every so many milliseconds, into $work/sipped.
sipper_open()
{
	: >"$work/sipped"
	"$PEER" sip "$(port "$1")" "$2" "$3" ${4:+"$4"} >"$work/sipped" &
	# shellcheck disable=SC2034 # eval reads it
	client_sipper=$!
	clients="$clients sipper"
	wait_log "event=connect side=$1"
}

# client_run PORT [OPTIONS]: becomes a client between standard input and
# output.  $client_with says which: socat, nc, or busybox for its nc;
# $client_host whom to dial; $client_wait how many seconds socat waits for the
# other way to end once one has.
client_run()
{
	case $client_with in
	nc)	exec nc -N "$client_host" "$1" ;;
	busybox) exec busybox nc "$client_host" "$1" ;;
	*)	exec socat -t "$client_wait" - "TCP:$client_host:$1,nodelay${2:+,$2}" ;;
	esac
}

client_pid()
{
	eval "echo \"\${client_$1:-}\""
}

# client_say NAME TEXT: sends the text as it is.
client_say()
{
	printf '%s' "$2" >"$work/$1.fifo"
}

# client_feed NAME FILE: sends the file, in the background, for the client
# may be held back; client_fed waits until all of it is on its way.
client_feed()
{
	cat "$2" >"$work/$1.fifo" &
	eval "feeder_$1=$!"
}

# client_gush NAME COUNT: sends that many zero bytes, in the background, too.
client_gush()
{
	head -c "$2" /dev/zero >"$work/$1.fifo" &
	eval "feeder_$1=$!"
}

# client_pour NAME COUNT: the same, and asserts that they are on their way in
# time.
client_pour()
{
	client_gush "$@"
	client_fed "$1"
}

client_fed()
{
	eval "dies \"\${2:-20}\" \"\$feeder_$1\""
	assertTrue "client $1 is held back" $?
}

# client_waits SIDE COUNT: waits until the kernel has that many bytes of a
# client of that side for the bridge, which must be frozen.
client_waits()
{
	if ! command -v ss >/dev/null; then
		sleep 1
		return
	fi
	wait_until 5 client_pending "$@"
	assertTrue "$2 bytes are not on their way" $?
}

# clients_wait SIDE N: waits until N connections of that side are there, whether
# the bridge has taken them or not.
clients_wait()
{
	if ! command -v ss >/dev/null; then
		sleep 1
		return
	fi
	wait_until 5 clients_dialled "$@"
	assertTrue "$2 connections do not come" $?
}

clients_dialled()
{
	[ "$(ss -tnH src "$host:$(port "$1")" | grep -c .)" -eq "$2" ]
}

client_pending()
{
	ss -tnH src "$host:$(port "$1")" |
	    awk -v count="$2" '$2 == count { found = 1 } END { exit !found }'
}

# client_hears NAME TEXT [SECS]: asserts that all it has got since it dialled
# is exactly this text.
client_hears()
{
	printf '%s' "$2" >"$work/expected"
	client_hears_file "$1" "$work/expected" "${3:-10}"
}

# client_hears_file NAME FILE [SECS]: the same for the bytes of a file; the
# seconds are those in which nothing more comes.
client_hears_file()
{
	assert_gets_same "what client $1 got" "$2" "$work/$1.got" "${3:-20}"
}

# assert_gets_same WHAT EXPECTED GROWING SECS: asserts that the second file gets
# the bytes of the first; the seconds are those in which it does not grow.
assert_gets_same()
{
	if gets_same "$4" "$2" "$3"; then
		assertTrue "$1" 0
	else
		assert_same_bytes "$1" "$2" "$3"
	fi
}

# gets_same SECS FILE GROWING: waits for that, or until it grows no more for so
# long.
gets_same()
{
	if [ -n "$WITNESS" ]; then
		look same "$2" "$3" $(($1 * witness_second))
		return
	fi
	grown_to=$(size "$2")
	while
		grown_from=$(size "$3")
		! wait_until "$1" is_size "$grown_to" "$3"
	do
		grown=$(size "$3")
		[ "$grown" -gt "$grown_from" ] && [ "$grown" -lt "$grown_to" ] ||
		    return 1
	done
	cmp -s "$2" "$3"
}

# client_heard_nothing NAME: asserts that it has got no byte.
client_heard_nothing()
{
	[ ! -s "$work/$1.got" ]
	assertTrue "client $1 has got bytes" $?
}

# client_close NAME: ends what it says, as a program that exits, and waits
# until the connection is gone at its end too.
client_close()
{
	eval "end_process \"\$holder_$1\""
	client_ends "$1"
}

# client_kill NAME: kills its process.
client_kill()
{
	eval "end_process \"\${feeder_$1:-}\"; feeder_$1="
	eval "end_process \"\${client_$1:-}\"; client_$1="
	eval "end_process \"\${holder_$1:-}\"; holder_$1="
}

# client_reset NAME: resets its connection; opened with linger=0.
client_reset()
{
	client_kill "$1"
}

# client_freeze NAME, client_thaw NAME: it reads no more, and reads again.
client_freeze()
{
	tell STOP "$(client_pid "$1")"
}

client_thaw()
{
	tell CONT "$(client_pid "$1")"
}

# client_ends NAME [SECS]: asserts that its connection is ended for it.
client_ends()
{
	dies "${2:-10}" "$(client_pid "$1")"
	assertTrue "client $1 is still connected" $?
}

# client_stays NAME [SIDE]: asserts that it is connected, and that the bridge
# has not closed anybody at that side.
client_stays()
{
	is_alive "$(client_pid "$1")"
	assertTrue "client $1 is gone" $?
	refute_log "event=disconnect side=${2:-$1}"
}

# client_lost SIDE [N]: asserts that the bridge says so, for the N-th time.
client_lost()
{
	wait_count "${2:-1}" "event=disconnect side=$1"
}

# assert_timed_out SECS CAUSE: asserts that the client at $side is closed for
# that cause, that many seconds after it connected and less than two more.
assert_timed_out()
{
	wait_log "event=disconnect side=$side .* reason=timeout cause=$2 " \
	    $(($1 + 5)) || return
	timed=$(log_value duration reason=timeout)
	is_in_time "$1" "$timed"
	assertTrue "closed after $timed s" $?
}

clients_end()
{
	[ -n "$clients" ] || return 0
	for client in $clients; do
		client_kill "$client"
	done
	clients=
}

# terminal_make FILE: makes a terminal, $work/tty; what is written to it comes
# to the file as it is.  Sets $terminal to the process that does this.
terminal_make()
{
	rm -f "$work/tty"
	socat -u "PTY,link=$work/tty,raw,echo=0" - >>"$1" 2>/dev/null &
	# shellcheck disable=SC2034 # for the suites
	terminal=$!
	wait_until 5 terminal_is_raw
}

# It is there a moment before it leaves the ends of lines alone.
terminal_is_raw()
{
	stty -a <"$work/tty" | grep -q -e '-opost'
}

# ---- bytes ----

# make_bytes FILE COUNT: fills it with bytes that no compression or
# repetition can hide a mistake in.
make_bytes()
{
	head -c "$2" /dev/urandom >"$1"
}

# size FILE: prints its length, without the blanks that some wc put there.
size()
{
	echo $(($(wc -c <"$1")))
}

# is_size BYTES FILE
is_size()
{
	[ "$(wc -c <"$2")" -eq "$1" ]
}

# assert_same_bytes WHAT EXPECTED ACTUAL: two files.
assert_same_bytes()
{
	cmp -s "$2" "$3"
	same=$?
	[ $same -eq 0 ] || set -- "$1: $(size "$3") bytes, not $(size "$2"), $(
	    cmp "$2" "$3" 2>&1)"
	assertTrue "$1" $same
}

# rests FILE: tells whether it has not grown for a while.
rests()
{
	rested=$(size "$1")
	sleep 0.2 2>/dev/null || sleep 1
	is_size "$rested" "$1"
}

# ---- what a test needs ----

# Each prints why the test is skipped and fails if it is not there:
#	need strace || return 0

skip()
{
	echo "skip $test_name: $*"
	test_skipped=yes
	return 1
}

# need COMMAND...
need()
{
	for needed in "$@"; do
		command -v "$needed" >/dev/null 2>&1 ||
		    { skip "$needed is not installed" || return 1; }
	done
}

need_linux()
{
	[ "$(uname -s)" = Linux ] || skip 'the system is not Linux'
}

need_proc()
{
	[ -r "/proc/$$/status" ] || skip 'there is no /proc as in Linux'
}

need_root()
{
	[ "$(id -u)" -eq 0 ] || skip 'not root'
}

# need_user: sets $as_user to words that run a command as another user, without
# any right of root's.
need_user()
{
	need_root && need_native && need setpriv || return 1
	as_user="setpriv --reuid 65534 --regid 65534 --clear-groups"
	# The shell of busybox prefers its own setpriv, which has no --reuid.
	$as_user true 2>/dev/null || skip 'this setpriv changes no user'
}

# need_apart DIRECTORY: sets $apart to words that run a command with a /dev of
# its own, that directory.
need_apart()
{
	need_linux && need_root && need_native && need unshare || return 1
	# shellcheck disable=SC2016 # another shell's words
	echo 'mount --bind "$1" /dev && shift && exec "$@"' >"$work/apart"
	apart="unshare -m sh $work/apart $1"
	$apart true 2>"$work/apart.err" ||
	    skip "no /dev of its own: $(cat "$work/apart.err")"
}

need_ipv6()
{
	# A file in /proc has no size.
	grep -q . /proc/net/if_inet6 2>/dev/null ||
	    ifconfig 2>/dev/null | grep -q inet6 ||
	    skip 'the system has no IPv6'
}

# need_native: the bridge is a process of its own, not run by an emulator.
need_native()
{
	case $TCPBRIDGE in
	*' '*) skip 'the bridge runs inside another program' ;;
	esac
}

# need_nc: nc in the flavour with -N.
need_nc()
{
	need nc || return 1
	# busybox has an option -iN, and its shell prefers its own nc.
	if nc -h 2>&1 | grep -q BusyBox; then
		skip "this shell's nc is that of busybox, without -N"
		return 1
	fi
	nc -h 2>&1 | grep -q -e '-[a-zA-Z]*N' || skip 'this nc has no -N'
}

# need_peer: sets $PEER to a built test/tools/peer.c.
need_peer()
{
	[ -z "$PEER" ] || return 0
	${CC:-cc} -o "$work/peer" "$tests/tools/peer.c" 2>"$work/peer.err" ||
	    { skip 'no C compiler for test/tools/peer.c' || return 1; }
	PEER=$work/peer
}

# ---- what shunit2 calls ----

# shunit2 passes a test that asserts nothing, and tells nobody which tests
# ran; so the three variables of its own that say so are read here, and
# test/run is told in $TEST_RESULTS.
test_name=

# shunit2 starts up to three processes to count an assertion.  So these two
# of its functions, and expr, are replaced once it has defined its own.
# shellcheck disable=SC2317,SC2329 # shunit2 calls them
oneTimeSetUp()
{
	_shunit_assertPass()
	{
		__shunit_assertsPassed=$((__shunit_assertsPassed + 1))
		__shunit_assertsTotal=$((__shunit_assertsTotal + 1))
	}

	# assertTrue [MESSAGE] STATUS|COMMAND
	assertTrue()
	{
		[ $# -eq 2 ] || set -- '' "$1"
		if is_true "$2"; then
			_shunit_assertPass
		else
			fail "$1"
		fi
	}
}

is_true()
{
	case $1 in
	'' | *[!0-9]*) (eval "${1:-false}") >/dev/null 2>&1 ;;
	*) [ "$1" -eq 0 ] ;;
	esac
}

expr()
{
	case $2 in
	+) echo $(($1 + $3)) ;;
	*) command expr "$@" ;;
	esac
}

# shunit2 runs the tests that are added here, or all of them if there are none.
suite()
{
	for test in ${TESTS:-}; do
		suite_addTest "$test"
	done
}

setUp()
{
	bridge_before=
	bridge_under=
	bridge_busy=
	undo=
	client_with=socat
	client_host=$host
	client_wait=0.5
	face A
	test_skipped=
	: >"$log"
	asserts_before=${__shunit_assertsTotal:?unknown version of shunit2}
	test_name=${_shunit_test_:?unknown version of shunit2}
}

# shunit2 calls it once more at the end.
tearDown()
{
	[ -n "$test_name" ] || return 0
	clients_end
	bridge_stop
	undo_it
	if [ "$__shunit_assertsTotal" -eq "$asserts_before" ] &&
	    [ -z "$test_skipped" ]; then
		fail 'the test asserts nothing'
	fi
	if [ "${__shunit_testSuccess:?unknown version of shunit2}" -ne 0 ]; then
		log_print
		result=failed
	else
		result=${test_skipped:+skipped}
	fi
	echo "${result:-passed} $test_name" >>"${TEST_RESULTS:-/dev/null}"
	test_name=
	return 0
}

# log_print: prints the end of the log, of all totals only the last.
log_print()
{
	awk '
	/ event=stats / { stats[n++ % 4] = $0; next }
	{ print }
	END {
		for (i = 0; i < 4 && i < n; i++)
			print stats[(n + i) % (n < 4 ? n : 4)]
	}' "$log" | sed 's/^/    log: /' | tail -n 100
}

undo_it()
{
	eval "${undo:-:}"
	undo=
}

oneTimeTearDown()
{
	clients_end
	[ -z "$bridge_pid" ] || bridge_kill
	undo_it
	[ -z "$WITNESS" ] || end_process "$witness"
	rm -rf "$work"
	return 0
}

#!/bin/sh
#
# What happens again and again is told at once, then in sums, ever more rarely:
# drops, clients that replace each other.  And what an operator has to look at
# is a warning: a receiver that holds its sender back, a timeout, a stranger.
. "${0%/*}/lib.sh"

# contest N: so many more clients come to $side, each in the place of the one
# before.
contest()
{
	contender=0
	while [ "$contender" -lt "$1" ]; do
		contender=$((contender + 1))
		client_dial "$side" "c$contender"
		contenders=$((contenders + 1))
		wait_until 10 has_come "$contenders"
		assertTrue "client $contenders does not come" $?
	done
}

# has_come N: tells whether so many have come to $side.
has_come()
{
	totals_come &&
	    [ "$(log_value connects "event=stats side=$side")" -eq "$1" ]
}

contest_start()
{
	bridge_start "$@"
	contenders=0
}

# sum KEY PATTERN: prints what that key adds up to in all lines that match.
sum()
{
	sed -n "/$2/s/.* $1=\([0-9]*\).*/\1/p" "$log" |
	    awk '{ n += $1 } END { print n + 0 }'
}

sum_is()
{
	[ "$(sum "$2" "$3")" -eq "$1" ]
}

peer='127\.0\.0\.1:[0-9]*'

test_clients_that_replace_each_other_are_told_as_contested()
{
	for s in A B; do
		face "$s"
		contest_start
		contest 4
		wait_log "level=warn event=contested side=$side peer=$peer other=$peer count=3\$"
		assertEquals 'the one that is there' \
		    "$(totals_come; log_value peer "event=stats side=$side")" \
		    "$(log_value peer event=contested)"
		refute_log "event=contested side=$other"
	done
}

test_two_replacements_are_no_contest()
{
	for s in A B; do
		face "$s"
		contest_start
		contest 3
		client_close c3
		client_lost "$side" 3
		contest 3
		refute_log 'event=contested'
	done
}

# A line a second at most; what is left out is counted.
test_a_contest_has_few_lines_and_counts_all()
{
	for s in A B; do
		face "$s"
		contest_start
		contest 20
		wait_until 15 sum_is 19 count event=contested
		assertEquals 'replaced' 19 "$(sum count event=contested)"
		lines=$(log_count "event=\(connect\|disconnect\|contested\) ")
		assertTrue "$lines lines" "[ $lines -le 8 ]"
		bridge_stop
		wait_log "event=stats side=$side .* connects=20\$"
	done
}

test_verbose_tells_each_client_of_a_contest()
{
	for s in A B; do
		face "$s"
		contest_start -v
		contest 10
		wait_count 10 "event=connect side=$side"
		wait_count 9 "event=disconnect side=$side .* reason=replaced by=$peer "
	done
}

test_a_contest_is_told_under_quiet()
{
	blind_start -q || return
	contenders=1
	contest 5
	wait_log 'level=warn event=contested side=A'
	refute_log 'event=\(dis\)*connect'
}

# poll N: the client of $other sends so many messages that nobody gets.
poll()
{
	polls=0
	while [ "$polls" -lt "$1" ]; do
		client_say "$other" 'request!'
		sleep 0.2
		polls=$((polls + 1))
	done
}

# At once, and a second later; the next line would come after 10 seconds.
test_polls_towards_an_absent_side_are_one_run()
{
	for s in A B; do
		face "$s"
		bridge_start -H 0
		client_open "$other" || return
		poll 20
		wait_total 160 dropped "$back"
		span=$(log_span event=drop event=stats)
		lines=$(log_count 'event=drop ')
		assertTrue "$lines lines in $span s" \
		    "[ $lines -le 2 -o ${span%.*} -ge 10 ]"
		refute_log 'event=drop_end'
		bridge_stop
		assertEquals 'told' 160 "$(sum bytes 'event=drop ')"
	done
}

# ---- slow receivers ----

# held_back OPTIONS: $side sends much to $other, which takes nothing.
held_back()
{
	make_bytes "$work/much" 12000000
	bridge_launch "$@"
	wait_until 10 ports_logged
	client_open "$side" && client_open "$other" || return
	client_freeze "$other"
	client_feed "$side" "$work/much"
}

# Of a run only the first line comes at once, and the next one a second later.
test_what_was_lost_is_told_before_the_receiver_is_back()
{
	for s in A B; do
		face "$s"
		bridge_start -b 10
		client_open "$side" || return
		client_say "$side" '0123456789'
		wait_total 10 held "$dir"
		client_say "$side" 'abc'
		wait_log "event=drop dir=$dir .* bytes=3 "
		client_say "$side" 'defg'
		wait_total 7 dropped "$dir"
		client_open "$other" || return
		client_hears "$other" '0123456789'
		wait_log "event=drop dir=$dir .* bytes=4 drops=[0-9]* total=7\$"
		last=$(sed -n '/event=drop .* bytes=4 /=' "$log")
		back_at=$(sed -n "/event=connect side=$other /=" "$log")
		assertTrue "line $last is not before line $back_at" \
		    "[ $last -lt $back_at ]"
	done
}

test_a_receiver_that_holds_its_sender_back_is_told_after_five_seconds()
{
	for s in A B; do
		face "$s"
		held_back -g 60 || return
		wait_log "level=warn event=slow dir=$dir session=2 peer=$peer held=[1-9][0-9]*\$" 15 || return
		assertEquals 'the receiver' "$(log_value peer "connect side=$other")" \
		    "$(log_value peer event=slow)"
		assert_span 5 "event=connect side=$other" event=slow
		client_thaw "$other"
		client_hears_file "$other" "$work/much"
		wait_log "level=info event=slow_end dir=$dir held=[0-9]* duration=[0-9.]*\$"
		assertEquals 'times' 1 "$(log_count 'event=slow ')"
		refute_log "event=slow dir=$back"
	done
}

# Without -g there, the sender is read on after 3 seconds.
test_a_hung_receiver_is_told_before_bytes_are_lost()
{
	held_back || return
	wait_log 'event=slow dir=A->B session=2' 15
	client_kill B
	wait_log 'event=slow_end dir=A->B held=[1-9]'
}

test_a_full_ring_that_waits_for_nobody_is_told_under_l()
{
	for s in A B; do
		face "$s"
		bridge_start -l -b 1k
		client_open "$side" || return
		make_bytes "$work/much" 50000
		client_feed "$side" "$work/much"
		wait_log "level=warn event=slow dir=$dir session=0 peer=- held=1024\$" 15
		client_open "$other" || return
		client_hears_file "$other" "$work/much"
		wait_log "event=slow_end dir=$dir"
	done
}

# A fast sender is held back all the time, but never for long.
test_a_long_copy_is_not_slow()
{
	need_peer || return 0
	bridge_start
	sipper_open A 65536 10 && client_open B || return
	client_feed B /dev/zero
	sleep 7
	refute_log 'event=slow'
	assertTrue 'nothing was copied' \
	    "[ $(totals_come; total sent 'B->A') -gt 1000000 ]"
}

test_a_metric_tells_who_is_slow()
{
	need curl || return 0
	held_back -g 60 -m "$host:0" || return
	metrics=$(sed -n '/service=metrics/s/.*addr=//p' "$log")
	assertContains "$(curl -s "http://$metrics/metrics")" 'slow{dir="A->B"} 0'
	wait_log 'event=slow ' 15
	assertContains "$(curl -s "http://$metrics/metrics")" 'slow{dir="A->B"} 1'
	assertContains "$(curl -s "http://$metrics/metrics")" 'slow{dir="B->A"} 0'
}

# ---- levels ----

test_what_to_look_at_is_a_warning()
{
	need_loopback || return 0
	for s in A B; do
		face "$s"
		bridge_start -i 2
		client_dial "$side" one
		wait_count 1 "event=connect side=$side"
		client_dial "$side" two
		client_ends one
		wait_log "level=info event=disconnect side=$side session=1 .* reason=replaced by=$peer "
		client_dial "$side" three "bind=127.0.0.9"
		client_ends two
		wait_log "level=warn event=disconnect side=$side session=2 .* reason=replaced by=127\.0\.0\.9:[0-9]* "
		wait_log "level=warn event=disconnect side=$side session=3 .* reason=timeout cause=idle "
		client_dial "$side" four
		wait_count 4 "event=connect side=$side"
		client_close four
		wait_log "level=info event=disconnect side=$side session=4 .* reason=eof "
	done
}

# need_loopback: all of 127.0.0.0/8 is this machine.
need_loopback()
{
	[ "$host" != 127.0.0.1 ] || skip 'only 127.0.0.1 is this machine'
}

# shellcheck source=/dev/null
. "$SHUNIT2"

#!/bin/sh
#
# The log is an interface: one event a line, in exactly these forms.
. "${0%/*}/lib.sh"

stamp='^time=20[0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\.[0-9][0-9][0-9]Z'
peer='127\.0\.0\.1:[0-9][0-9]*'
place=$(echo "$host" | sed 's/\./\\./g')
number='[0-9][0-9]*'

# assert_line LEVEL REST: asserts that a line has exactly this form.
assert_line()
{
	wait_log "$stamp level=$1 $2\$"
}

test_it_says_where_it_listens_and_that_it_is_ready()
{
	bridge_start -b 1k
	assert_line info "event=listen side=A addr=$place:$port_A"
	assert_line info "event=listen side=B addr=$place:$port_B"
	assert_line info "event=ready state=IDLE pid=$bridge_pid version=[^ ]* buffer=1024 acks=[A-Za-z_]*"
	version=$($TCPBRIDGE -V)
	assertContains "$version" "$(log_value version event=ready)"
}

test_a_connection_is_told_when_it_comes_and_goes()
{
	for s in A B; do
		face "$s"
		bridge_start
		client_open "$side" || return
		assert_line info "event=connect side=$side session=1 peer=$peer state=ONLY_$side held=0"
		client_say "$side" '0123456789'
		wait_total 10 held "$dir"
		client_open "$other" || return
		assert_line info "event=connect side=$other session=2 peer=$peer state=PAIRED held=10"
		client_hears "$other" '0123456789'
		client_close "$side"
		assert_line info "event=disconnect side=$side session=1 peer=$peer reason=eof duration=$number\.[0-9][0-9][0-9] received=10 sent=0 unacked=0 held=0 state=ONLY_$other"
		client_say "$other" 'bye'
		wait_total 3 held "$back"
		client_close "$other"
		assert_line info "event=disconnect side=$other session=2 peer=$peer reason=eof duration=.* received=3 sent=10 unacked=0 held=0 state=IDLE"
	done
}

test_the_peer_is_the_address_that_dialled()
{
	for s in A B; do
		face "$s"
		bridge_start
		client_dial "$side" "$side" 'sourceport=0,bind=127.0.0.1:0'
		wait_log "event=connect side=$side" || return
		source=$(log_value peer event=connect)
		assertNotEquals "the bridge's own port" \
		    "$host:$(port "$side")" "$source"
		need ss || return 0
		assertContains "$(ss -tnH src "$source")" "$source"
	done
}

test_sessions_are_numbered_from_one()
{
	bridge_start
	for visitor in one two three; do
		client_open A $visitor && client_close $visitor
		client_open B $visitor && client_close $visitor
	done
	client_lost B 3
	numbers=$(sed -n 's/.*event=connect .* session=\([0-9]*\) .*/\1/p' "$log" |
	    tr '\n' ' ')
	assertEquals '1 2 3 4 5 6 ' "$numbers"
}

test_the_totals_have_this_form()
{
	for s in A B; do
		face "$s"
		bridge_start -b 2k
		client_open "$side" || return
		client_say "$side" '0123456789'
		wait_total 10 received "$dir"
		assert_line info "event=stats dir=$dir received=10 sent=0 dropped=0 held=10 capacity=2048 drops=0 unacked=0"
		assert_line info "event=stats dir=$back received=0 sent=0 dropped=0 held=0 capacity=2048 drops=0 unacked=0"
		assert_line info "event=stats side=$side connected=1 session=1 peer=$peer connects=1"
		wait_log "event=stats side=$other connected=0 .*connects=0\$"
	done
}

test_the_last_line_is_the_stop()
{
	bridge_start
	bridge_stop
	assert_line info 'event=stop signal=SIGTERM lost=0'
	assertContains "$(tail -n 1 "$log")" 'event=stop'
}

# Tokyo's clock is nine hours ahead.
test_the_time_is_utc()
{
	bridge_before='TZ=JST-9; export TZ'
	before=$(date -u '+%Y-%m-%dT%H:%M')
	bridge_start
	after=$(date -u '+%Y-%m-%dT%H:%M')
	told=$(sed -n 's/^time=\(.*\):[0-9.]*Z .*event=ready.*/\1/p' "$log")
	case $told in
	"$before"|"$after") told=now ;;
	esac
	assertEquals now "$told"
}

# Ready, the totals and the stop are what somebody asked for.
test_quiet_says_only_warnings_and_what_was_asked_for()
{
	blind_start -q -b 10 || return
	wait_until 10 nobody_is_there
	client_dial A
	client_say A '0123456789abc'
	wait_log 'level=warn event=drop dir=A->B'
	client_kill A
	wait_total 13 dropped 'A->B'
	bridge_stop
	said=$(sed 's/.* level=\([a-z]*\) event=\([a-z_]*\) .*/\1-\2/' "$log" |
	    uniq | tr '\n' ' ')
	assertEquals 'info-ready info-stats warn-drop info-stats info-stop ' \
	    "$said"
}

# nobody_is_there: tells whether the clients of blind_start have gone, by totals.
nobody_is_there()
{
	totals_come &&
	    [ "$(tail -n 4 "$log" | grep -c ' side=[AB] connected=0 ')" -eq 2 ]
}

test_verbose_says_all_that_the_default_says()
{
	pair_start -v || return
	client_say A 'hello'
	client_hears B 'hello'
	client_close A
	bridge_stop
	wait_count 2 'level=info event=listen'
	wait_count 2 'level=info event=connect'
	wait_count 2 'level=info event=disconnect'
	wait_log 'level=info event=stop'
}

test_standard_output_stays_empty()
{
	pair_start || return
	client_say A 'hello'
	client_hears B 'hello'
	bridge_stop
	assertEquals 'bytes' 0 "$(size "$work/out")"
}

# shellcheck source=/dev/null
. "$SHUNIT2"

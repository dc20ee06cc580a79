#!/bin/sh
#
# A stop in which all bytes arrive tells that none is lost.  Linux knows what a
# client acknowledged until its socket is closed.  Other systems forget it when
# both ends have sent EOF (test/tools/shims).
. "${0%/*}/lib.sh"

# stop_with_bytes: bytes and the signal come at the same time, as far as the
# bridge can tell.
stop_with_bytes()
{
	bridge_freeze
	client_say "$side" 'the last words'
	nap 20
	tell TERM "$bridge_pid"
	bridge_thaw
	bridge_ends 0
}

nothing_is_lost()
{
	client_hears "$other" 'the last words'
	wait_log 'event=stop signal=SIGTERM lost=0$'
	wait_log "event=stats dir=$dir received=14 sent=14 dropped=0 held=0 "
	log_check
}

test_a_client_that_closes_at_once_has_got_all()
{
	client_wait=0
	for s in A B; do
		face "$s"
		pair_start || return
		stop_with_bytes
		nothing_is_lost
	done
}

test_a_client_whose_eof_came_before_has_got_all()
{
	for s in A B; do
		face "$s"
		client_wait=60
		pair_start -e 60 || return
		eval "end_process \"\$holder_$other\""
		wait_log "event=half_close side=$other"
		stop_with_bytes
		nothing_is_lost
	done
}

# shellcheck source=/dev/null
. "$SHUNIT2"

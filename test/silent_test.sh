#!/bin/sh
#
# Silent, not closed: a client whose line is cut with bytes on their way keeps
# its connection, and TCP delivers them when the line is back.
. "${0%/*}/lib.sh"

# shellcheck source=test/net.sh
. "${0%/*}/net.sh"

# silent_start CUT [OPTIONS]: the client of A is silent, and owed eleven bytes.
silent_start()
{
	cut=$1
	shift
	silence_start "$cut" 'before ' 'on its way ' "$@"
}

# What it sends shows that it is there, as well as what it acknowledges.  Only
# the way to it is cut here.
resumes_by_speaking()
{
	silent_start line_cut_in || return
	client_say A 'I am here'
	client_hears B 'I am here'
	wait_log 'event=resumed side=A session=1 .* state=PAIRED$'
	refute_log 'event=disconnect'
}

test_one_that_speaks_is_not_silent()
{
	in_net resumes_by_speaking
}

# is_taken_over [OPTIONS]
is_taken_over()
{
	silent_start cut_old -r 60 "$@" || return
	client_open A new || return
	wait_log "event=disconnect side=A session=1 .* reason=replaced .* unacked=11 "
	client_hears new 'on its way '
	client_say new 'hello'
	client_hears B 'hello'
	line_mend
	client_say A 'anybody there?'
	client_ends A
	client_hears A 'before '
	refute_log 'event=refuse'
	client_stays B
	wait_total 11 unacked 'B->A'
	assert_accounted
}

# cut_old: cuts the connection that is there, so that a newcomer has a line.
cut_old()
{
	line_cut_port "$(log_value peer 'event=connect side=A' |
	    sed 's/.*://')"
}

test_a_newcomer_takes_the_place_of_a_silent_client_at_once()
{
	in_net is_taken_over
}

test_a_newcomer_takes_the_place_of_a_silent_client_at_once_under_l()
{
	in_net is_taken_over -l
}

# It counts as absent, so nothing waits for it.
does_not_hold_back()
{
	silent_start line_cut -b 64k -g 1000 || return
	client_pour B 200000
	wait_log 'event=drop dir=B->A .* reason=overflow'
	wait_total 200018 received 'B->A'
	assertEquals 'connected' 0 "$(log_value connected 'stats side=A')"
	refute_log 'event=disconnect'
}

test_a_silent_client_does_not_hold_its_sender_back()
{
	in_net does_not_hold_back
}

# The window is shut, and its system goes on saying so: it is the program.
hangs()
{
	net_start -k 1 -w 3
	client_open A A rcvbuf=4096 && client_open B || return
	client_freeze A
	client_pour B 300000
	wait_log 'event=disconnect side=A .* reason=timeout cause=write '
	refute_log 'event=silent'
	client_stays B
}

test_a_program_that_hangs_is_closed_by_w_and_not_silent()
{
	in_net hangs
}

# With -w shorter than the time until a client is silent, a line that is cut is
# no reason to close it.
is_not_closed()
{
	net_start -k 10 -w 2
	client_open A && client_open B || return
	line_cut
	client_say B 'on its way'
	wait_log 'event=silent side=A'
	line_mend
	wait_log 'event=resumed side=A' 30
	client_hears A 'on its way'
	refute_log 'event=disconnect'
}

test_a_line_that_is_cut_is_not_closed_by_w()
{
	in_net is_not_closed
}

# It spoke a moment ago, so it lives; but what is on its way is not
# acknowledged, so it is the line, and not its program.
speaks_in_between()
{
	net_start -k 30 -w 6
	client_open A && client_open B || return
	line_cut
	client_say B 'on its way'
	sleep 3.5
	line_mend
	client_say A 'here'
	client_hears B 'here'
	line_cut
	sleep 0.3
	line_mend
	client_hears A 'on its way'
	refute_log 'event=disconnect'
}

test_one_that_spoke_while_its_line_was_cut_is_not_closed_by_w()
{
	in_net speaks_in_between
}

# It took nothing, and its system said so; now nobody says anything.
hangs_and_is_cut()
{
	net_start -k 1 -w 0 -l
	client_open A A rcvbuf=4096 && client_open B || return
	client_freeze A
	client_feed B /dev/zero
	sleep 3
	refute_log 'event=silent'
	line_cut
	wait_log 'event=silent side=A .* state=ONLY_B$' 15
	refute_log 'event=disconnect'
}

test_a_program_that_hangs_is_silent_when_its_line_is_cut()
{
	in_net hangs_and_is_cut
}

# Without an address of its own the bridge's system sends nothing.
loses_its_address()
{
	net_start -k 1 -w 3
	client_open A && client_open B || return
	ip -n "$near" address delete $net_host/24 dev cable
	ip -n "$near" address add $net_host/32 dev lo
	client_say B 'on its way'
	wait_log 'event=silent side=A .* state=ONLY_B$'
	sleep 2
	refute_log 'event=disconnect'
	ip -n "$near" address delete $net_host/32 dev lo
	ip -n "$near" address add $net_host/24 dev cable
	client_hears A 'on its way' 30
	wait_log 'event=resumed side=A'
	refute_log 'event=disconnect'
}

test_a_bridge_whose_own_route_goes_closes_nobody()
{
	in_net loses_its_address
}

# -k 0: nobody is silent.
never_silent()
{
	net_start -k 0 -w 0
	client_open A && client_open B || return
	line_cut
	client_say B 'on its way'
	sleep 4
	line_mend
	client_hears A 'on its way'
	refute_log 'event=silent'
	refute_log 'event=disconnect'
}

test_without_k_and_w_nobody_is_silent()
{
	in_net never_silent
}

# shellcheck source=/dev/null
. "$SHUNIT2"

#!/bin/sh
#
# Peers in a network of their own that fails: the cable is pulled, packets
# are swallowed, or one in ten is lost.  Nobody says goodbye.
#
# The bridge has a namespace, the clients at side A another one.
. "${0%/*}/lib.sh"

# shellcheck source=test/net.sh
. "${0%/*}/net.sh"

# assert_noticed_in SECS: asserts that side A is found dead in that time after
# the last totals, and why.
assert_noticed_in()
{
	wait_log 'event=disconnect side=A' 15 || return
	noticed=$(log_span 'event=stats side=B' 'event=disconnect side=A')
	awk "BEGIN { exit !($noticed <= $1 * $PATIENCE) }"
	assertTrue "noticed after $noticed s" $?
	wait_log 'disconnect side=A .* reason=\(timeout cause=keepalive\|error error="No route to host"\) '
}

# it_goes_on TEXT: the network is well again, and somebody else is there.
it_goes_on()
{
	client_stays B
	client_say B 'and now'
	client_open A again && client_hears again "$1and now"
	client_say again 'back'
	client_hears B 'back'
	assert_accounted
}

# vanishes_idle FAIL MEND: the far peer falls silent with nothing to be said to it.
vanishes_idle()
{
	net_start -k 1
	client_open A && client_open B || return
	"$1"
	totals_ask
	assert_noticed_in 5
	client_kill A
	"$2"
	it_goes_on ''
}

test_a_pulled_cable_is_noticed_when_idle()
{
	in_net vanishes_idle cable_pull cable_plug
}

test_a_swallowing_network_is_noticed_when_idle()
{
	in_net vanishes_idle line_cut_in line_mend
}

# silent_start FAIL [OPTIONS]: bytes are under way, and are not acknowledged.
silent_start()
{
	fault=$1
	shift
	silence_start "$fault" 'one ' 'twelve bytes' "$@" || return
	assert_span 2 'event=connect side=B' event=silent
}

# vanishes_owed FAIL MEND: who dials when the network is well again gets them.
vanishes_owed()
{
	silent_start "$1" || return
	client_say B ' and later '
	wait_total 23 held 'B->A'
	client_kill A
	"$2"
	it_goes_on 'twelve bytes and later '
	assertEquals 'unacked' "$(log_value unacked 'disconnect side=A')" \
	    "$(total unacked 'B->A')"
}

test_a_pulled_cable_is_told_and_the_next_client_gets_what_was_sent()
{
	in_net vanishes_owed cable_pull cable_plug
}

test_a_swallowing_network_is_told_and_the_next_client_gets_what_was_sent()
{
	in_net vanishes_owed line_cut_in line_mend
}

# heals FAIL MEND: the client is still there when the network is well again, and TCP
# delivers.
heals()
{
	silent_start "$1" || return
	"$2"
	client_say B ', well again'
	wait_log 'level=info event=resumed side=A session=1 peer=198\.18\.0\.2:[0-9]* silent=[0-9.]* state=PAIRED$' 20
	client_hears A 'one twelve bytes, well again'
	wait_total 0 held 'B->A'
	client_say A 'me too'
	client_hears B 'me too'
	client_stays A
	client_stays B
	assert_accounted
}

test_a_client_behind_a_pulled_cable_is_present_again_when_it_is_plugged()
{
	in_net heals cable_pull cable_plug
}

test_a_client_behind_a_swallowing_network_is_present_again_when_it_heals()
{
	in_net heals line_cut_in line_mend
}

# What may still arrive is not dropped; what comes later than -H is.
expires()
{
	silent_start line_cut_in -H 1 || return
	sleep 1.2
	client_say B ' too late'
	wait_log 'event=drop dir=B->A .* reason=expired bytes=9 drops=1 total=9$'
	wait_total 12 held 'B->A'
	line_mend
	wait_log event=resumed 20
	client_hears A 'one twelve bytes'
	client_say B ', in time'
	client_hears A 'one twelve bytes, in time'
}

test_what_comes_for_a_silent_client_expires()
{
	in_net expires
}

# -r protects a client that is present, and nobody else.
gives_way()
{
	silent_start line_cut_in -r 60 || return
	line_mend
	client_open A new && client_hears new 'twelve bytes' || return
	refute_log event=refuse
}

test_a_silent_client_gives_way_to_a_newcomer()
{
	in_net gives_way
}

# blips HOW: for less than the time that -k gives, it is nobody's business.
blips()
{
	net_start -k 3
	client_open A && client_open B || return
	"$1"
	client_say B 'over a '
	sleep 2
	"$2"
	client_say B 'bad line'
	client_hears A 'over a bad line'
	client_stays A
	client_stays B
}

test_a_short_outage_is_bridged()
{
	in_net blips cable_pull cable_plug
}

test_a_vanished_peer_that_comes_back_replaces_itself()
{
	in_net returns
}

# The old connection is still believed in when the new one comes.
returns()
{
	net_start -k 100
	client_open A && client_open B || return
	line_cut_in
	client_kill A
	line_mend
	client_open A again || return
	client_say B 'welcome back'
	client_hears again 'welcome back'
	client_stays B
}

# One packet in ten is lost, in both directions.
lossy()
{
	make_bytes "$work/much" 1500000
	net_start
	client_open A && client_open B || return
	line_drops 'numgen random mod 100 < 10' "$nothing"
	client_feed A "$work/much"
	client_feed B "$work/much"
	client_hears_file A "$work/much" 60
	client_hears_file B "$work/much" 60
	ip netns exec "$far" nft list table ip fault >"$work/rules"
	lost=$(sed -n '/numgen/s/.*counter packets \([0-9]*\) .*/\1/p' "$work/rules")
	assertTrue "$lost packets lost" "[ ${lost:-0} -gt 5 ]"
	wait_total 1500000 sent 'A->B'
	wait_total 1500000 sent 'B->A'
	assert_accounted
}

test_all_arrives_whole_over_a_line_that_loses_packets()
{
	in_net lossy
}

# shellcheck source=/dev/null
. "$SHUNIT2"

#!/bin/sh
#
# Peers in a network of their own that fails: the cable is pulled, packets
# are swallowed, or one in ten is lost.  Nobody says goodbye.
#
# The bridge has a namespace, the clients at side A another one.
# shellcheck disable=SC2034 # some variables are for lib.sh
. "${0%/*}/lib.sh"

near=tcpbridge$$n
far=tcpbridge$$f
cable=tb$$

# need_net: makes both namespaces and the cable between them.
need_net()
{
	need_linux && need_root && need_native && need ip nft || return 1
	{ ip netns add "$near" && ip netns add "$far" &&
	    ip link add "${cable}n" netns "$near" type veth \
	    peer name "${cable}f" netns "$far" &&
	    ip -n "$near" address add 198.18.0.1/24 dev "${cable}n" &&
	    ip -n "$far" address add 198.18.0.2/24 dev "${cable}f" &&
	    ip -n "$near" link set "${cable}n" up &&
	    ip -n "$far" link set "${cable}f" up &&
	    ip -n "$near" link set lo up; } 2>"$work/net.err" ||
	    { net_close; skip "no network namespace: $(cat "$work/net.err")"; }
}

net_close()
{
	ip netns delete "$near" 2>/dev/null
	ip netns delete "$far" 2>/dev/null
}

# in_net COMMAND...: runs it with a network, which goes with the test.
in_net()
{
	need_net || return 0
	undo=net_close
	bridge_under="ip netns exec $near"
	client_host=198.18.0.1
	"$@"
}

net_start()
{
	bridge_start "$@" -- 198.18.0.1:0 198.18.0.1:0
}

# Clients at side A are far, those at side B near.
client_run()
{
	case $1 in
	"$port_A") set -- "$far" "$@" ;;
	*) set -- "$near" "$@" ;;
	esac
	exec ip netns exec "$1" socat -t "$client_wait" - \
	    "TCP:$client_host:$2,nodelay${3:+,$3}"
}

# What may go wrong with the network, and how it is mended.
cable_fails()
{
	ip -n "$far" link set "${cable}f" down
}

cable_mended()
{
	ip -n "$far" link set "${cable}f" up
}

# packets_lost RULE: what the rule matches does not reach the far side.
packets_lost()
{
	ip netns exec "$far" nft -f - <<-RULES
	table ip fault
	delete table ip fault
	table ip fault {
		chain input {
			type filter hook input priority 0;
			$1 counter drop
		}
	}
	RULES
}

silence_fails()
{
	packets_lost ''
}

silence_mended()
{
	ip netns exec "$far" nft delete table ip fault
}

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

# vanishes_idle HOW: the far peer falls silent with nothing to be said to it.
vanishes_idle()
{
	net_start -k 1
	client_open A && client_open B || return
	"$1_fails"
	totals_ask
	assert_noticed_in 5
	client_kill A
	"$1_mended"
	it_goes_on ''
}

test_a_pulled_cable_is_noticed_when_idle()
{
	in_net vanishes_idle cable
}

test_a_swallowing_network_is_noticed_when_idle()
{
	in_net vanishes_idle silence
}

# silent_start HOW [OPTIONS]: bytes are under way, and are not acknowledged.
silent_start()
{
	fault=$1
	shift
	net_start -k 1 "$@"
	client_open A && client_open B || return
	client_say B 'one '
	client_hears A 'one '
	"${fault}_fails"
	client_say B 'twelve bytes'
	wait_log 'level=warn event=silent side=A session=1 peer=198\.18\.0\.2:[0-9]* unacked=12 held=12 state=ONLY_B$' || return
	assert_span 2 'event=connect side=B' event=silent
}

# vanishes_owed HOW: who dials when the network is well again gets them.
vanishes_owed()
{
	silent_start "$1" || return
	client_say B ' and later '
	wait_total 23 held 'B->A'
	client_kill A
	"$1_mended"
	it_goes_on 'twelve bytes and later '
	assertEquals 'unacked' "$(log_value unacked 'disconnect side=A')" \
	    "$(total unacked 'B->A')"
}

test_a_pulled_cable_is_told_and_the_next_client_gets_what_was_sent()
{
	in_net vanishes_owed cable
}

test_a_swallowing_network_is_told_and_the_next_client_gets_what_was_sent()
{
	in_net vanishes_owed silence
}

# heals HOW: the client is still there when the network is well again, and TCP
# delivers.
heals()
{
	silent_start "$1" || return
	"$1_mended"
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
	in_net heals cable
}

test_a_client_behind_a_swallowing_network_is_present_again_when_it_heals()
{
	in_net heals silence
}

# What may still arrive is not dropped; what comes later than -H is.
expires()
{
	silent_start silence -H 1 || return
	sleep 1.2
	client_say B ' too late'
	wait_log 'event=drop dir=B->A .* reason=expired bytes=9 drops=1 total=9$'
	wait_total 12 held 'B->A'
	silence_mended
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
	silent_start silence -r 60 || return
	silence_mended
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
	"$1_fails"
	client_say B 'over a '
	sleep 2
	"$1_mended"
	client_say B 'bad line'
	client_hears A 'over a bad line'
	client_stays A
	client_stays B
}

test_a_short_outage_is_bridged()
{
	in_net blips cable
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
	silence_fails
	client_kill A
	silence_mended
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
	packets_lost 'numgen random mod 100 < 10'
	client_feed A "$work/much"
	client_feed B "$work/much"
	client_hears_file A "$work/much" 60
	client_hears_file B "$work/much" 60
	ip netns exec "$far" nft list table ip fault >"$work/rules"
	lost=$(sed -n 's/.*counter packets \([0-9]*\) .*/\1/p' "$work/rules")
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

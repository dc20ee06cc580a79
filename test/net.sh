# shellcheck shell=sh
#
# A network of its own for a test: the bridge and the clients of side B in one
# namespace, the clients of side A in another one, and a cable between them
# that can fail.  For suites that have read lib.sh, and for tools that set near
# and far themselves:
#
#	test_what_holds_in_a_network()
#	{
#		in_net holds
#	}
#
#	holds()
#	{
#		net_start -k 1
#		...
#	}
#
# shellcheck disable=SC2034,SC2154 # variables of lib.sh

near=tcpbridge$$n
far=tcpbridge$$f
net_host=198.18.0.1

# in_net COMMAND...: runs it with a network, which goes with the test; or skips
# the test.
in_net()
{
	need_linux && need_root && need_native && need ip nft || return 0
	undo=net_remove
	net_make 2>"$work/net.err" ||
	    { skip "no network namespace: $(cat "$work/net.err")"; return 0; }
	bridge_under="ip netns exec $near"
	"$@"
}

net_make()
{
	ip netns add "$near" && ip netns add "$far" &&
	    ip link add cable netns "$near" type veth \
	    peer name cable netns "$far" &&
	    ip -n "$near" address add $net_host/24 dev cable &&
	    ip -n "$far" address add 198.18.0.2/24 dev cable &&
	    ip -n "$near" link set cable up &&
	    ip -n "$far" link set cable up &&
	    ip -n "$near" link set lo up
}

net_remove()
{
	ip netns delete "$near"
	ip netns delete "$far"
} 2>/dev/null

net_start()
{
	bridge_start "$@" -- $net_host:0 $net_host:0
}

# client_run PORT [OPTIONS]: as in lib.sh, in the namespace of the side.
client_run()
{
	case $1 in
	"$port_A") set -- "$far" "$@" ;;
	*) set -- "$near" "$@" ;;
	esac
	exec ip netns exec "$1" socat -t "$client_wait" - \
	    "TCP:$net_host:$2,nodelay${3:+,$3}"
}

# What fails, and how it is mended.
cable_pull()
{
	ip -n "$far" link set cable down
}

cable_plug()
{
	ip -n "$far" link set cable up
}

# Nothing comes to the far side and nothing leaves it.
line_cut()
{
	line_drops '' ''
}

# Nothing comes to the far side; what it says goes on.
line_cut_in()
{
	line_drops '' "$nothing"
}

# line_cut_port PORT: the connection of the far side from that port.
line_cut_port()
{
	line_drops "tcp dport $1" "tcp sport $1"
}

# line_drops INPUT OUTPUT: what these rules match does not come to the far side,
# and does not leave it; all of it if a rule is empty.
nothing='tcp dport 0'
line_drops()
{
	ip netns exec "$far" nft -f - <<-RULES
	table ip fault {
		chain input {
			type filter hook input priority 0;
			$1 counter drop
		}
		chain output {
			type filter hook output priority 0;
			$2 counter drop
		}
	}
	RULES
}

line_mend()
{
	ip netns exec "$far" nft delete table ip fault
}

# silence_start CUT SAID OWED [OPTIONS]: the client of A heard what was said; then
# its line is cut, and it is silent, with what it is owed on its way.
silence_start()
{
	cut=$1 said=$2 owed=$3
	shift 3
	net_start -k 1 "$@"
	client_open A && client_open B || return
	client_say B "$said"
	client_hears A "$said"
	"$cut"
	client_say B "$owed"
	wait_log "level=warn event=silent side=A session=1 peer=198\.18\.0\.2:[0-9]* unacked=${#owed} held=${#owed} state=ONLY_B\$"
}

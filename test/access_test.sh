#!/bin/sh
#
# Who is let in (-A, -B): single addresses and networks of both families.  A
# stranger is closed at once, without a byte, and touches nothing.
#
# All of 127.0.0.0/8 is this machine where it is Linux, so clients can come
# from many addresses; of IPv6 there is only ::1, so there the networks differ.
. "${0%/*}/lib.sh"

# guarded NET...: starts a bridge that lets these in on both sides.
guarded()
{
	nets=
	for net in "$@"; do
		nets="$nets -A $net -B $net"
	done
	client_wait=0.1
	# shellcheck disable=SC2086 # words
	bridge_start $nets -- "$client_host:0" "$client_host:0"
}

# admits SIDE [ADDRESS]: asserts that a client gets in, from that address.
admits()
{
	client_open "$1" "$1" "${2:+bind=$2}" ||
	    echo "    for: ${2:-$client_host} and -$1 $nets"
	client_kill "$1"
}

# denies SIDE [ADDRESS]: asserts that one is closed without a byte, and never
# said to be connected.
denies()
{
	came=$(log_count "event=connect side=$1")
	client_dial "$1" stranger "${2:+bind=$2}"
	client_ends stranger && client_heard_nothing stranger &&
	    assertEquals 'connects' "$came" "$(log_count "event=connect side=$1")" ||
	    echo "    for: ${2:-$client_host} and -$1 $nets"
}

# need_loopbacks: the system has 127.0.0.5 and the like.
need_loopbacks()
{
	[ "$host" != 127.0.0.1 ] || skip 'only 127.0.0.1 is local'
}

test_a_single_address_lets_in_that_one_only()
{
	need_loopbacks || return 0
	guarded 127.0.0.5
	for side in A B; do
		denies "$side" 127.0.0.4
		admits "$side" 127.0.0.5
		denies "$side" 127.0.0.6
	done
	guarded 127.0.0.5/32
	for side in A B; do
		denies "$side" 127.0.0.4
		admits "$side" 127.0.0.5
	done
}

test_a_network_lets_in_all_its_addresses_and_no_neighbour()
{
	need_loopbacks || return 0
	guarded 127.0.0.4/31
	for side in A B; do
		denies "$side" 127.0.0.3
		admits "$side" 127.0.0.4
		admits "$side" 127.0.0.5
		denies "$side" 127.0.0.6
	done
	guarded 127.64.0.0/10
	for side in A B; do
		denies "$side" 127.63.255.254
		admits "$side" 127.64.0.1
		admits "$side" 127.127.255.254
		denies "$side" 127.128.0.1
	done
}

test_the_bits_past_the_prefix_do_not_matter()
{
	need_loopbacks || return 0
	guarded 127.0.9.77/24
	for side in A B; do
		denies "$side" 127.0.8.255
		admits "$side" 127.0.9.1
		denies "$side" 127.0.10.1
	done
}

test_prefix_zero_lets_in_everyone_of_its_family()
{
	need_loopbacks || return 0
	guarded 0.0.0.0/0
	for side in A B; do
		admits "$side" 127.0.0.1
		admits "$side" 127.200.1.1
	done
}

test_a_network_of_ipv6_lets_in_its_addresses_only()
{
	need_ipv6 || return 0
	client_host='[::1]'
	for net in ::1 ::1/128 ::/127 ::3/126 7fff::/1 ::/0; do
		guarded "$net"
		admits A
		admits B
	done
	for net in ::2 ::2/128 ::2/127 ::4/126 8000::/1; do
		guarded "$net"
		denies A
		denies B
	done
}

test_a_network_of_one_family_lets_in_none_of_the_other()
{
	guarded ::/0 ::/64
	denies A
	denies B
	need_ipv6 || return 0
	client_host='[::1]'
	guarded 0.0.0.0/0 127.0.0.1
	denies A
	denies B
}

test_each_of_sixteen_networks_lets_in_its_own()
{
	need_loopbacks || return 0
	set -- ::1 10.0.0.0/8
	while [ $# -lt 16 ]; do
		set -- "$@" "127.0.0.$#"
	done
	guarded "$@"
	for side in A B; do
		denies "$side" 127.0.0.1
		admits "$side" 127.0.0.2
		admits "$side" 127.0.0.15
		denies "$side" 127.0.0.16
	done
}

test_each_side_has_networks_of_its_own()
{
	client_wait=0.1
	nets=10.0.0.0/8
	bridge_start -A 10.0.0.0/8
	denies A
	admits B
	bridge_start -B 10.0.0.0/8
	admits A
	denies B
}

test_a_stranger_replaces_nobody()
{
	need_loopbacks || return 0
	for s in A B; do
		face "$s"
		guarded 127.0.0.1
		client_open "$side" && client_open "$other" || return
		denies "$side" 127.0.0.2
		client_stays "$side"
		client_say "$side" 'still here'
		client_hears "$other" 'still here'
		client_say "$other" 'so I see'
		client_hears "$side" 'so I see'
	done
}

test_a_stranger_is_closed_at_once_though_nothing_has_room()
{
	need_loopbacks || return 0
	for s in A B; do
		face "$s"
		client_wait=0.1
		bridge_start -l -b 1k "-$side" 127.0.0.5 -- "$client_host:0" \
		    "$client_host:0"
		client_open "$side" "$side" bind=127.0.0.5 || return
		head -c 50000 /dev/zero >"$work/$side.fifo"
		wait_total 1024 held "$dir"
		client_dial "$side" stranger bind=127.0.0.4
		client_ends stranger 2
		wait_log "event=refuse side=$side .* reason=denied count=1\$"
		client_stays "$side"
	done
}

test_what_a_stranger_sends_reaches_nobody()
{
	need_loopbacks || return 0
	for s in A B; do
		face "$s"
		guarded 127.0.0.1
		client_open "$other" || return
		printf evil | socat -t 1 - "TCP:$host:$(port "$side"),bind=127.0.0.2" \
		    >/dev/null 2>&1
		client_open "$side" || return
		client_say "$side" 'good'
		client_hears "$other" 'good'
		assert_accounted
		assertEquals 4 "$(total received "$dir")"
	done
}

test_a_stranger_does_not_get_what_is_held()
{
	need_loopbacks || return 0
	for s in A B; do
		face "$s"
		guarded 127.0.0.1
		client_open "$side" || return
		client_say "$side" 'secret'
		wait_total 6 held "$dir"
		denies "$other" 127.0.0.2
		client_open "$other" || return
		client_hears "$other" 'secret'
	done
}

test_a_refusal_is_told_with_side_and_peer_and_reason()
{
	need_loopbacks || return 0
	for s in A B; do
		face "$s"
		guarded 127.0.0.1
		denies "$side" 127.0.0.9
		wait_log "level=warn event=refuse side=$side peer=127\.0\.0\.9:[0-9]* reason=denied count=1\$"
	done
}

# strangers SIDE N: so many, all at once and to their end.
strangers()
{
	visitors=
	while [ "${visitors##* }" != "$2" ]; do
		visitors="$visitors $((${visitors##* } + 1))"
		socat -u "TCP:$host:$(port "$1")" - >/dev/null 2>&1 &
		eval "visitor_${visitors##* }=$!"
	done
	for visitor in $visitors; do
		eval "wait \"\$visitor_$visitor\""
	done
}

# In sums: at once, then 1 and 10 seconds after the first.
test_refusals_are_told_at_once_then_more_and_more_rarely()
{
	for s in A B; do
		face "$s"
		guarded 10.0.0.0/8
		strangers "$side" 8
		wait_log "event=refuse side=$side .* count=[0-9]*\$"
		wait_until 5 told_of 8
		assertEquals 'told of, though nobody else came' 8 "$(refusals)"
		strangers "$side" 1
		strangers "$side" 1
		wait_until 15 told_of 10
		assertEquals 'told of' 10 "$(refusals)"
		assertTrue 'too many lines' "[ $(log_count event=refuse) -le 4 ]"
		assert_span 10 event=refuse event=refuse
	done
}

test_a_stop_tells_the_refusals_of_its_last_second()
{
	for s in A B; do
		face "$s"
		guarded 10.0.0.0/8
		strangers "$side" 8
		bridge_stop
		assertEquals 'told of' 8 "$(refusals)"
	done
}

# refusals: prints the sum of what the refuse lines say.
refusals()
{
	sed -n 's/.*event=refuse .* count=//p' "$log" | awk '{ n += $1 } END { print n + 0 }'
}

told_of()
{
	[ "$(refusals)" -eq "$1" ]
}

# shellcheck source=/dev/null
. "$SHUNIT2"

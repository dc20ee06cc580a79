#!/bin/sh
#
# Where it listens: every form of address, both families, all or nothing.
. "${0%/*}/lib.sh"

# listens SIDE: prints the addresses of that side, without the port, in order.
listens()
{
	sed -n "s/.*event=listen side=$1 addr=\(.*\):[0-9]*\$/\1/p" "$log" |
	    sort | tr '\n' ' '
}

test_a_port_alone_means_every_interface_of_both_families()
{
	need_ipv6 || return 0
	for form in 0 :0 '*:0'; do
		bridge_start -- "$form" "$form"
		assertEquals "$form" '0.0.0.0 [::] ' "$(listens A)"
		assertEquals "$form" '0.0.0.0 [::] ' "$(listens B)"
	done
}

test_both_families_of_a_side_get_the_same_port()
{
	need_ipv6 || return 0
	bridge_start -- 0 0
	wait_count 2 "event=listen side=A addr=.*:$port_A\$"
	wait_count 2 "event=listen side=B addr=.*:$port_B\$"
	assertNotEquals "$port_A" "$port_B"
}

test_4_and_6_choose_the_family()
{
	need_ipv6 || return 0
	bridge_start -4 -- 0 0
	assertEquals '0.0.0.0 ' "$(listens A)"
	assertEquals '0.0.0.0 ' "$(listens B)"
	bridge_start -6 -- 0 0
	assertEquals '[::] ' "$(listens A)"
	assertEquals '[::] ' "$(listens B)"
}

test_an_address_means_itself_alone()
{
	need_ipv6 || return 0
	for form in 127.0.0.1 "$host" '[::1]' 0.0.0.0 '[::]'; do
		bridge_start -- "$form:0" "$host:0"
		assertEquals "$form " "$(listens A)"
		bridge_start -- "$host:0" "$form:0"
		assertEquals "$form " "$(listens B)"
	done
}

test_every_address_of_a_name_is_bound()
{
	need getent || return 0
	expected=$(getent ahosts localhost | awk '$2 == "STREAM" {
	    print index($1, ":") ? "[" $1 "]" : $1 }' | sort -u | tr '\n' ' ')
	bridge_start -- localhost:0 "$host:0"
	assertEquals "$expected" "$(listens A)"
	bridge_start -- "$host:0" localhost:0
	assertEquals "$expected" "$(listens B)"
}

test_a_zone_is_taken()
{
	need ip && need_ipv6 || return 0
	local=$(ip -6 -o addr show scope link | awk '!/tentative/ {
	    sub(/\/.*/, "", $4); print $4 "%" $2; exit }')
	[ -n "$local" ] || { skip 'no link-local address'; return 0; }
	for s in A B; do
		face "$s"
		bridge_start -- "[$local]:0" "[$local]:0"
		client_host="[$local]"
		client_open "$side" && client_open "$other" || return
		client_say "$side" 'zone'
		client_hears "$other" 'zone'
	done
}

test_both_families_reach_it_and_are_told_as_what_they_are()
{
	need_ipv6 || return 0
	for s in A B; do
		face "$s"
		bridge_start_at 10000 '*'
		client_host=$host
		client_open "$side" || return
		client_host='[::1]'
		client_open "$other" || return
		client_say "$side" 'four'
		client_say "$other" 'six'
		client_hears "$other" 'four'
		client_hears "$side" 'six'
		wait_log "event=connect side=$side session=1 peer=127\.0\.0\.1:"
		wait_log "event=connect side=$other session=2 peer=\[::1\]:"
	done
}

test_without_operands_it_listens_on_1024_and_1025()
{
	! unshare -n true 2>/dev/null || bridge_under='unshare -n'
	bridge_launch --
	wait_until 5 grep -q 'event=ready\|in use' "$log"
	if grep -q 'in use' "$log"; then
		bridge_kill
		skip 'port 1024 or 1025 is in use'
		return 0
	fi
	wait_log 'event=listen side=A addr=0\.0\.0\.0:1024$'
	wait_log 'event=listen side=B addr=0\.0\.0\.0:1025$'
}

test_a_port_in_use_ends_it()
{
	bridge_start
	for taken in "$port_A" "$port_B"; do
		for form in "$host:" :; do
			in_use "$form$taken" "$host:0"
			in_use "$host:0" "$form$taken"
		done
	done
}

# in_use A B: these addresses are refused because of the port $taken.
in_use()
{
	bridge_run "$@"
	assert_refuses 1 ":$taken"
}

test_one_port_for_both_sides_ends_it()
{
	bridge_run "$host:7007" "$host:7007"
	assert_refuses 2 7007
}

test_an_address_that_is_not_ours_ends_it()
{
	bridge_run 192.0.2.1:0 "$host:0"
	assert_refuses 1 192.0.2.1:0
	bridge_run "$host:0" 192.0.2.1:0
	assert_refuses 1 192.0.2.1:0
}

test_what_an_address_lacks_is_told()
{
	need_ipv6 || return 0
	for s in A B; do
		for wrong in '[fe80::1]:0/a link-local address needs a zone' \
		    '[::ffff:127.0.0.1]:0/write it as IPv4'; do
			address=${wrong%/*}
			set -- "$address" "$host:0"
			[ "$s" = A ] || set -- "$host:0" "$address"
			bridge_run "$@"
			assert_refuses 1 "side $s: ${address%:0}" "${wrong#*/}"
		done
	done
}

# In a network of its own that has no IPv6 address.
test_a_family_that_the_system_lacks_is_skipped()
{
	need_linux && need_root && need_native && need unshare ip || return 0
	# shellcheck disable=SC2016 # another shell's words
	echo 'echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
	    ip link set lo up && exec "$@"' >"$work/only_v4"
	without_v6="unshare -n sh $work/only_v4"
	$without_v6 true 2>/dev/null ||
	    { skip 'no network of its own'; return 0; }
	bridge_under=$without_v6
	bridge_start -v -m 0 -- 127.0.0.1:0 127.0.0.1:0
	wait_log 'level=debug event=skip service=metrics addr=\[::1\]:[0-9]* error=".*"$'
	wait_log 'event=listen service=metrics addr=127\.0\.0\.1:[1-9]'
	bridge_stop
	bridge_launch -6 -m 0 -- 0 0
	bridge_ends 1
	wait_log '^tcpbridge: -m: \*: '
	: >"$log"
}

# The resolver is told not to insist.
test_a_name_that_does_not_resolve_ends_it()
{
	RES_OPTIONS='timeout:1 attempts:1'
	export RES_OPTIONS
	bridge_run name.invalid:0 "$host:0"
	assert_refuses 1 name.invalid
	bridge_run "$host:0" name.invalid:0
	assert_refuses 1 name.invalid
}

# A bridge that closed its clients first has their ports in TIME_WAIT.
test_it_starts_again_on_the_same_ports_at_once()
{
	bridge_start_at 20000 "$host"
	for again in one two three; do
		client_open A && client_open B || return
		client_open A $again || return
		client_say $again 'hello'
		client_hears B 'hello'
		kill -KILL "$bridge_pid"
		wait "$bridge_pid" 2>/dev/null
		bridge_pid=
		bridge_start -- "$host:$port_A" "$host:$port_B" ||
		    return
	done
}

# shellcheck source=/dev/null
. "$SHUNIT2"

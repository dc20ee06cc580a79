#!/bin/sh
#
# How small the static build is: the file, and what it takes of memory with
# two clients that send each other a line now and then.
# shellcheck disable=SC2034 # some variables are for lib.sh
. "${0%/*}/lib.sh"

# need_small: builds the static binary, once.
need_small()
{
	need_linux && need_proc && need musl-gcc || return 1
	need_native || return 1
	[ -x "$work/small/tcpbridge-static" ] && return
	mkdir -p "$work/small"
	cp "$here/../Makefile" "$here/../tcpbridge.c" "$work/small"
	make -C "$work/small" static CC=musl-gcc >"$work/small/said" 2>&1 ||
	    fail "$(cat "$work/small/said")"
}

test_the_static_binary_has_at_most_128_kib()
{
	need_small || return 0
	size=$(wc -c <"$work/small/tcpbridge-static")
	assertTrue "$size bytes" "[ $size -le 131072 ]"
}

test_light_traffic_takes_at_most_192_kib_of_memory()
{
	need_small || return 0
	TCPBRIDGE=$work/small/tcpbridge-static
	bridge_start && client_open A && client_open B || return
	said=
	for line in one two three; do
		said=$said$line
		client_say A "$line" && client_hears B "$said"
		client_say B "$line" && client_hears A "$said"
	done
	kib=$(awk '/^VmRSS/ { print $2 }' "/proc/$bridge_pid/status")
	assertTrue "$kib KiB" "[ $kib -le 192 ]"
}

# shellcheck source=/dev/null
. "$SHUNIT2"

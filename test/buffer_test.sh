#!/bin/sh
#
# Bytes are held up to a fixed bound; past it, new ones are dropped, counted
# and told, or under -l the sender waits.  Memory does not grow and nobody
# is disconnected.
. "${0%/*}/lib.sh"

test_the_size_is_taken_from_the_option()
{
	for pair in 1:1 4096:4096 1k:1024 2m:2097152 4m:4194304; do
		bridge_start -b "${pair%:*}"
		assertEquals "${pair#*:}" "$(log_value buffer event=ready)"
	done
	bridge_start
	assertEquals 4194304 "$(log_value buffer event=ready)"
}

test_an_absent_side_gets_the_oldest_bytes_up_to_the_bound()
{
	make_bytes "$work/much" 6000000
	for s in A B; do
		face "$s"
		bridge_start
		client_open "$side" || return
		client_feed "$side" "$work/much"
		client_fed "$side"
		wait_total 6000000 received "$dir"
		held=$(total held "$dir")
		assertTrue "held $held" "[ $held -gt 4190208 -a $held -le 4194304 ]"
		client_stays "$side"
		client_open "$other" || return
		client_hears_oldest 4190208 "$held"
	done
}

# client_hears_oldest BYTES HELD: asserts that $other gets HELD bytes, and first of
# them the oldest ones.  Less room than a read may be filled by a later, smaller
# read.
client_hears_oldest()
{
	wait_until 20 is_size "$2" "$work/$other.got"
	assertEquals "what client $other got" "$2" "$(size "$work/$other.got")"
	head -c "$1" "$work/$other.got" >"$work/first"
	head -c "$1" "$work/much" >"$work/oldest"
	assert_same_bytes 'the oldest bytes' "$work/oldest" "$work/first"
}

test_a_short_message_is_kept_or_lost_in_one_piece()
{
	for s in A B; do
		face "$s"
		bridge_start -b 1000
		client_open "$side" || return
		say_counted 600 a
		say_counted 600 b
		say_counted 300 c
		say_counted 200 d
		wait_total 800 dropped "$dir"
		wait_total 2 drops "$dir"
		client_open "$other" || return
		client_hears_file "$other" "$work/kept"
	done
}

# Sends that many of a letter, waits until they are read, and notes in
# $work/kept what 1000 bytes have room for.
say_counted()
{
	[ "$2" != a ] || { : >"$work/kept"; said=0; }
	text=$(printf "%$1s" '' | tr ' ' "$2")
	client_say "$side" "$text"
	said=$((said + $1))
	wait_total "$said" received "$dir"
	case $2 in
	a|c)	printf '%s' "$text" >>"$work/kept" ;;
	esac
}

# full_start BYTES: starts a bridge that can hold so many for $other, and does.
full_start()
{
	bridge_start -b "$1"
	client_open "$side" || return
	client_say "$side" "$(printf "%$1s" '')"
	wait_total "$1" held "$dir"
}

test_dropping_is_told_once_then_once_a_second_then_its_end()
{
	for s in A B; do
		face "$s"
		full_start 1024 || return
		drip 12
		lines=$(log_count "event=drop dir=$dir ")
		span=$(log_span 'event=drop dir' 'event=stats')
		assertTrue "$lines lines in $span seconds" \
		    "[ $lines -ge 2 -a $lines -le $((${span%.*} + 2)) ]"
		refute_log 'event=drop_end'
		client_open "$other" || return
		sleep 1
		client_say "$side" 'fits'
		wait_log "event=drop_end dir=$dir drops=12 total=120"
		assertEquals 'bytes on drop lines' "$(drop_bytes)" \
		    "$(log_value total 'event=drop ')"
	done
}

# The first line comes at once; the rest a second later, though nothing more
# is dropped then.
test_all_that_was_dropped_is_told_in_the_end()
{
	for s in A B; do
		face "$s"
		full_start 1024 || return
		drip 3
		wait_until 5 all_drops_told
		assertTrue "told $(drop_bytes)" $?
	done
}

test_a_stop_tells_what_was_dropped_in_its_last_second()
{
	for s in A B; do
		face "$s"
		full_start 1024 || return
		drip 3
		bridge_stop
		assertEquals 'told' 30 "$(drop_bytes)"
	done
}

all_drops_told()
{
	[ "$(drop_bytes)" = 30 ]
}

# Sends that many messages of ten bytes, with a second's rest after each six.
drip()
{
	drops=0
	while [ "$drops" -lt "$1" ]; do
		client_say "$side" '0123456789'
		drops=$((drops + 1))
		wait_total "$drops" drops "$dir"
		[ $((drops % 6)) -ne 0 ] || sleep 1
	done
}

# drop_bytes: prints what the drop lines add up to.
drop_bytes()
{
	sed -n 's/.* event=drop .* bytes=\([0-9]*\) .*/\1/p' "$log" |
	    awk '{ sum += $1 } END { print sum }'
}

test_the_first_drop_is_told_at_once()
{
	for s in A B; do
		face "$s"
		full_start 10 || return
		client_say "$side" '01234'
		wait_log "level=warn event=drop dir=$dir session=1 reason=overflow bytes=5 drops=1 total=5\$" 2
	done
}

test_memory_is_flat_however_much_is_sent_to_nobody()
{
	need_proc || return 0
	for s in A B; do
		face "$s"
		bridge_start
		client_open "$side" || return
		before=$(memory_kib)
		client_pour "$side" 50000000
		wait_until 20 total_is 50000000 received "$dir"
		grown=$(($(memory_kib) - before))
		assertTrue "$grown KiB more" "[ $grown -le 5120 ]"
		wait_log "event=drop dir=$dir .* reason=overflow"
		client_stays "$side"
	done
}

test_a_reader_that_stopped_costs_drops_and_nothing_else()
{
	for s in A B; do
		face "$s"
		stuck_start "$other" -w 0 || return
		client_pour "$side" 30000000
		wait_log "event=drop dir=$dir .* reason=overflow" 20
		wait_total 30000000 received "$dir" 20
		client_stays "$side"
		client_stays "$other"
		assert_accounted
		client_thaw "$other"
		wait_total 0 held "$dir"
		assertEquals "$(total sent "$dir")" "$(size "$work/$other.got")"
	done
}

test_a_slow_reader_slows_the_sender_and_loses_nothing()
{
	need_peer || return 0
	make_bytes "$work/much" 12000000
	for s in A B; do
		face "$s"
		bridge_start -g 3
		client_open "$side" || return
		sipper_open "$other" 65536 15 100000
		client_feed "$side" "$work/much"
		assert_gets_same 'what was sipped' "$work/much" "$work/sipped" 30
		refute_log 'event=drop '
	done
}

test_within_the_grace_the_sender_is_held_back()
{
	for s in A B; do
		face "$s"
		stuck_start "$other" -w 0 -g 60 || return
		client_feed "$side" /dev/zero
		bridge_busy=yes
		wait_until 10 stands_still
		assertTrue 'the sender is not held back' $?
		held=$(total held "$dir")
		assertTrue "held $held" "[ $held -ge 100000 ]"
		assertEquals 'dropped' 0 "$(total dropped "$dir")"
	done
}

# stands_still: tells whether something and then nothing is received for a
# second.
stands_still()
{
	totals_come
	stood=$(total received "$dir")
	sleep 1
	totals_come && [ "$stood" -gt 0 ] &&
	    [ "$(total received "$dir")" = "$stood" ]
}

test_after_the_grace_the_buffer_fills_and_overflows()
{
	for s in A B; do
		face "$s"
		stuck_start "$other" -w 0 -g 3 || return
		client_gush "$side" 30000000
		wait_log "event=drop dir=$dir .* reason=overflow"
		span=$(log_span "event=connect side=$other" 'event=drop .* drops=1 ')
		assertTrue "after $span s" "[ ${span%.*} -ge 3 ]"
		wait_total 30000000 received "$dir"
		held=$(total held "$dir")
		assertTrue "held $held" "[ $held -gt 4128768 ]"
	done
}

test_without_grace_nobody_is_held_back()
{
	for s in A B; do
		face "$s"
		stuck_start "$other" -w 0 -g 0 || return
		client_pour "$side" 30000000
		wait_total 30000000 received "$dir" 2
		wait_log "event=drop dir=$dir .* reason=overflow"
	done
}

test_lossless_holds_the_sender_back_from_nobody()
{
	make_bytes "$work/much" 20000000
	for s in A B; do
		face "$s"
		bridge_start -l
		client_open "$side" || return
		client_feed "$side" "$work/much"
		wait_total 4194304 held "$dir"
		assert_idle
		client_stays "$side"
		client_open "$other" || return
		client_hears_file "$other" "$work/much"
		refute_log 'event=drop '
	done
}

test_lossless_holds_the_sender_back_from_a_stopped_reader()
{
	make_bytes "$work/much" 20000000
	for s in A B; do
		face "$s"
		stuck_start "$other" -l -w 0 || return
		client_feed "$side" "$work/much"
		sleep 1
		assert_idle
		is_alive "$(eval "echo \$feeder_$side")"
		assertTrue 'the sender was not held back' $?
		client_thaw "$other"
		client_hears_file "$other" "$work/much"
		refute_log 'event=drop '
	done
}

# shellcheck source=/dev/null
. "$SHUNIT2"

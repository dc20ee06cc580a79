#!/bin/sh
#
# The trace (-x): all traffic in hex and text on standard output; the bytes
# can be got back from it, and nobody waits for who reads it.
. "${0%/*}/lib.sh"

stamp='20[0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\.[0-9][0-9][0-9]Z'

# wait_trace PATTERN: asserts that a line of the trace is just that.
wait_trace()
{
	wait_until 10 grep -q -e "^$1\$" "$work/out"
	met=$?
	assertTrue "no '$1' in: $(tail -n 20 "$work/out")" "$met"
}

# traced DIR: prints what the trace has of that direction, a byte in hex a
# line, and what is wrong with offsets and lengths.
traced()
{
	awk -v dir="$1" '
	function end_block() {
		if (count != length_told)
			print "not " length_told " bytes but " count
	}
	/ bytes=[0-9]+$/ {
		end_block()
		mine = $2 == dir
		count = 0
		length_told = mine ? substr($NF, 7) : 0
		next
	}
	!mine { next }
	$1 != sprintf("%08x", count) { print "offset " $1 " at " count }
	{ for (i = 2; i <= 17 && $i ~ /^[0-9a-f][0-9a-f]$/; i++) print $i }
	{ count += i - 2 }
	END { end_block() }' "$work/out"
}

# hex FILE: prints it as traced does.
hex()
{
	od -An -v -tx1 "$1" | tr -s ' ' '\n' | grep .
}

# assert_traced DIR FILE: asserts that the trace of it is exactly the file.
assert_traced()
{
	hex "$2" >"$work/hex"
	traced "$1" >"$work/traced"
	assert_same_bytes "the trace of $1" "$work/hex" "$work/traced"
}

test_a_block_has_time_direction_and_length()
{
	for s in A B; do
		face "$s"
		pair_start -x || return
		client_say "$side" 'hello'
		wait_trace "$stamp $dir session=1 bytes=5"
		client_say "$other" 'hi'
		wait_trace "$stamp $back session=2 bytes=2"
		assertEquals 'lines' 4 "$(grep -c '' "$work/out")"
	done
}

test_rows_have_offset_and_hex_and_text_of_sixteen_bytes()
{
	bridge_start -x
	client_open A || return
	client_say A 'Hello, world! <16 bytes|>'
	wait_trace '00000010  .*' || return
	tail -n 2 "$work/out" >"$work/rows"
	cat >"$work/expected" <<-'END'
	00000000  48 65 6c 6c 6f 2c 20 77  6f 72 6c 64 21 20 3c 31  |Hello, world! <1|
	00000010  36 20 62 79 74 65 73 7c  3e                       |6 bytes|>|
	END
	assertEquals "$(cat "$work/expected")" "$(cat "$work/rows")"
}

test_bytes_that_are_no_text_are_dots()
{
	bridge_start -x
	client_open B || return
	printf '\000\t\n\r\033 ~\177\200\377' >"$work/B.fifo"
	wait_trace '00000000  00 09 0a 0d 1b 20 7e 7f  80 ff                    *|..... ~...|'
	assertEquals 'lines' 2 "$(grep -c '' "$work/out")"
}

test_all_traffic_can_be_rebuilt_from_the_trace()
{
	make_bytes "$work/sent_A" 150000
	make_bytes "$work/sent_B" 90001
	pair_start -x || return
	client_feed A "$work/sent_A"
	client_feed B "$work/sent_B"
	client_hears_file A "$work/sent_B"
	client_hears_file B "$work/sent_A"
	bridge_stop
	assert_traced 'A->B' "$work/sent_A"
	assert_traced 'B->A' "$work/sent_B"
}

test_what_is_dropped_is_traced_too()
{
	for s in A B; do
		face "$s"
		bridge_start -x -H 0
		client_open "$side" || return
		client_say "$side" 'to nobody'
		wait_trace "$stamp $dir session=1 bytes=9"
		wait_trace '00000000  74 .* |to nobody|'
		wait_total 9 dropped "$dir"
	done
}

test_each_message_is_in_the_trace_when_it_has_arrived()
{
	pair_start -x || return
	for word in one two three; do
		client_say A "$word"
		wait_trace ".*|$word|"
		client_say B "$word back"
		wait_trace ".*|$word back|"
	done
	order=$(sed -n 's/.*Z \(.->.\) .*/\1/p' "$work/out" | tr '\n' ' ')
	assertEquals 'A->B B->A A->B B->A A->B B->A ' "$order"
}

# nobody_reads: starts a bridge that traces into a pipe that is open and not
# read.
nobody_reads()
{
	clients_end
	rm -f "$work/pipe"
	mkfifo "$work/pipe"
	sleep 1000 <>"$work/pipe" >/dev/null &
	holder_pipe=$!
	bridge_before="exec >'$work/pipe'"
	bridge_start -x
	clients="$clients pipe"
}

# somebody_reads: from now on the pipe is read to its end, into $work/out.
somebody_reads()
{
	cat "$work/pipe" >"$work/out" &
	# shellcheck disable=SC2034 # it ends as a client does
	client_pipe=$!
	end_process "$holder_pipe"
}

test_a_trace_that_nobody_reads_slows_nothing()
{
	make_bytes "$work/sent" 3000000
	for s in A B; do
		face "$s"
		nobody_reads || return
		client_open "$side" && client_open "$other" || return
		client_feed "$side" "$work/sent"
		client_hears_file "$other" "$work/sent"
		client_say "$other" 'and back'
		client_hears "$side" 'and back'
		refute_log 'event=drop'
	done
}

test_what_was_not_traced_is_said_in_the_trace()
{
	make_bytes "$work/sent" 500000
	nobody_reads || return
	client_open A && client_open B || return
	client_feed A "$work/sent"
	client_hears_file B "$work/sent"
	somebody_reads
	wait_until 10 grep -q '|' "$work/out"
	wait_until 10 rests "$work/out"
	client_say A 'read again'
	wait_trace '00000000  72 .* |read again|'
	missing=$(awk '/^# [0-9]+ bytes not traced$/ { n += $2 } END { print n + 0 }' "$work/out")
	seen=$(traced 'A->B' | grep -c '^..$')
	assertEquals "$seen traced, not $missing" 500010 $((seen + missing))
}

test_what_was_not_traced_at_the_end_is_said_too()
{
	make_bytes "$work/sent" 500000
	nobody_reads || return
	client_open B || return
	client_feed B "$work/sent"
	wait_total 500000 held 'B->A'
	somebody_reads
	wait_until 10 grep -q '|' "$work/out"
	wait_until 10 rests "$work/out"
	bridge_stop
	wait_trace '# [1-9][0-9]* bytes not traced'
	assertContains "$(tail -n 1 "$work/out")" 'not traced'
}

test_a_reader_that_goes_away_is_survived()
{
	for s in A B; do
		face "$s"
		nobody_reads || return
		end_process "$holder_pipe"
		client_open "$side" && client_open "$other" || return
		client_say "$side" 'hello'
		client_hears "$other" 'hello'
		client_say "$side" ' again'
		client_hears "$other" 'hello again'
	done
}

# shellcheck source=/dev/null
. "$SHUNIT2"

#!/bin/sh
#
# Everything malformed on the command line gives one line that names the
# option and the text, and status 2, before anything listens.
. "${0%/*}/lib.sh"

# refused OPTION TEXT ARGUMENTS: the arguments are refused, and the message
# has the option, and the text in quotes.
refused()
{
	option=$1
	text=$2
	shift 2
	bridge_run "$@"
	assert_refuses 2 "$option" "'$text'" ||
	    echo "    for: tcpbridge $*"
}

test_what_is_not_a_number_of_seconds_is_refused()
{
	for letter in e g H i k r t w; do
		for text in '' 10x x -1 1e999 nan inf 0x10 1,5 '1 ' ' 1' .; do
			refused "-$letter: not a number of seconds" "$text" \
			    "-$letter" "$text" 127.0.0.1:0 127.0.0.1:0
		done
	done
}

test_seconds_may_have_decimals()
{
	for text in 0 1 0.5 2.25 007 86400; do
		bridge_start -e "$text" -g "$text" -H "$text" -i "$text" \
		    -k "$text" -r "$text" -t "$text" -w "$text" ||
		    echo "    for: $text"
	done
}

test_what_is_not_a_size_is_refused()
{
	for text in '' 0 -1 10x 1e999 1e3 5m 4097k 4097m 4194305 1g 1.5k k \
	    ' 1' 0x10 4mm 18446744073709551617; do
		refused -b: "$text" -b "$text" 127.0.0.1:0 127.0.0.1:0
	done
}

test_what_is_not_a_network_is_refused()
{
	for letter in A B; do
		for text in '' x ffff 10 1.2.3 1.2.3/8 127/8 256.1.1.1 /0 /8 \
		    1.2.3.4/ 1.2.3.4/x 1.2.3.4/-1 1.2.3.4/33 1.2.3.4/08x \
		    1.2.3.4/8/8 '1.2.3.4/ 8' 1.2.3.4:5 ::/129 ::1/129 ::g \
		    1:2:3:4:5:6:7:8:9/8 '[::1]' ::1%lo ::ffff:1.2.3 ::ffff:1.2.3.4 \
		    localhost localhost/8; do
			refused "-$letter: " "$text" \
			    "-$letter" "$text" 127.0.0.1:0 127.0.0.1:0
		done
	done
}

test_sixteen_networks_are_taken_and_one_more_is_refused()
{
	for letter in A B; do
		set --
		while [ $# -lt 32 ]; do
			set -- "$@" "-$letter" "10.0.0.$#/32"
		done
		bridge_start "$@"
		refused "-$letter: " 10.9.9.9 "$@" "-$letter" 10.9.9.9 \
		    127.0.0.1:0 127.0.0.1:0
	done
}

test_what_is_not_an_address_for_metrics_is_refused()
{
	for text in '' x http 65536 -1 localhost: localhost:x localhost:65536 \
	    '[::1' '[::1]' '[::1]x:1' ' 1'; do
		refused -m "$text" -m "$text" 127.0.0.1:0 127.0.0.1:0
	done
}

test_what_is_not_an_address_is_refused_on_either_side()
{
	for text in '' x http 65536 -1 1x 0x10 ' 1' '1 ' 1.5 : '*:' '*' \
	    127.0.0.1 127.0.0.1: 127.0.0.1:http 127.0.0.1:65536 \
	    127.0.0.1:-1 127.0.0.1:+1 '[::1]' '[::1]:' '[::1]:x' '[::1' \
	    '[::1:5' '[::1]5' '[]:5' ::1 1:2:3 18446744073709551617; do
		refused A "$text" -- "$text" 127.0.0.1:0
		refused B "$text" -- 127.0.0.1:0 "$text"
	done
}

test_any_number_of_operands_but_none_and_two_is_refused()
{
	refused 'side B' 1 1
	refused 'more than two' 3 1 2 3
	refused 'more than two' 3 1 2 3 4
	refused 127.0.0.1:0 127.0.0.1:0 -q -- 127.0.0.1:0
}

test_options_after_the_operands_are_refused()
{
	refused -q -q 127.0.0.1:0 127.0.0.1:0 -q
}

test_an_unknown_option_is_refused()
{
	for letter in a z Z 1 0 '?'; do
		bridge_run "-$letter" 127.0.0.1:0 127.0.0.1:0
		assert_refuses 2 "-$letter: " unknown
	done
	bridge_run -qZ
	assert_refuses 2 '-Z: ' unknown
}

test_an_option_without_its_argument_is_refused()
{
	for letter in A B b e g H i k m n r t w; do
		bridge_run "-$letter"
		assert_refuses 2 "-$letter: " argument
		bridge_run "-q$letter"
		assert_refuses 2 "-$letter: " argument
	done
}

test_help_that_can_not_be_written_is_an_error()
{
	[ -c /dev/full ] || { skip 'no /dev/full'; return 0; }
	for option in -h -V; do
		# shellcheck disable=SC2086 # it may be several words
		$TCPBRIDGE "$option" >/dev/full 2>"$work/stderr"
		assertEquals "status of $option" 1 $?
		assertContains "$(cat "$work/stderr")" 'tcpbridge: standard output: '
	done
}

test_lossless_excludes_what_drops()
{
	for options in '-l -g 1' '-g 1 -l' '-l -H 1' '-H 0 -l' '-lg 0'; do
		# shellcheck disable=SC2086 # words
		bridge_run $options 127.0.0.1:0 127.0.0.1:0
		assert_refuses 2 -l || echo "    for: $options"
	done
}

test_help_names_every_option_on_standard_output()
{
	bridge_run -h
	assertEquals 'status' 0 "$bridge_status"
	assertEquals 'bytes on standard error' 0 "$(size "$work/stderr")"
	for letter in 4 6 A B b e f g H h i k l m n o q r s t V v w x; do
		grep -q -e "-[0-9a-zA-Z, -]*$letter" "$work/stdout"
		assertTrue "no -$letter" $?
	done
	widest=$(awk '{ if (length > w) w = length } END { print w }' \
	    "$work/stdout")
	assertTrue "$widest columns" "[ $widest -le 80 ]"
}

test_the_examples_of_the_help_can_be_typed()
{
	bridge_run -h
	examples=$(sed -n 's/^Examples://; s/^ *\(tcpbridge [^(]*\).*/\1/p' \
	    "$work/stdout")
	assertEquals 'examples' 2 "$(echo "$examples" | grep -c .)"
	# Its ports may be taken here; 0 is one that is not.
	echo "$examples" | sed "s/4001/-- &/; s/[0-9]\{4\}/$host:0/g" \
	    >"$work/examples"
	while read -r _ arguments; do
		# shellcheck disable=SC2086 # words
		bridge_start $arguments || return 0
		bridge_stop
	done <"$work/examples"
}

test_the_help_says_where_the_log_is_explained()
{
	bridge_run -h
	assertContains "$(cat "$work/stdout")" 'tcpbridge(1)'
	assertContains "$(cat "$work/stdout")" DIAGNOSTICS
}

test_version_is_one_line_on_standard_output()
{
	bridge_run -V
	assertEquals 'status' 0 "$bridge_status"
	assertEquals 'bytes on standard error' 0 "$(size "$work/stderr")"
	assertEquals 'lines' 1 "$(grep -c '^tcpbridge [0-9]' "$work/stdout")"
}

test_the_long_names_of_help_and_version_say_the_same()
{
	for option in --help -h --version -V; do
		bridge_run "$option"
		assertEquals "status of $option" 0 "$bridge_status"
		assertEquals 'bytes on standard error' 0 \
		    "$(size "$work/stderr")"
		mv "$work/stdout" "$work/said$option"
	done
	assert_same_bytes --help "$work/said-h" "$work/said--help"
	assert_same_bytes --version "$work/said-V" "$work/said--version"
	bridge_run --help "$host:0" "$host:0"
	assert_refuses 2 '--: unknown'
}

test_options_may_be_grouped_and_ended()
{
	bridge_start -4vl -b1k -i 10 --  "$host:0" "$host:0"
	assertEquals 1024 "$(log_value buffer event=ready)"
	client_open A && client_open B || return
	client_say A 'hello'
	client_hears B 'hello'
}

# shellcheck source=/dev/null
. "$SHUNIT2"

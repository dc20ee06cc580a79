#!/bin/sh
#
# Metrics and health over HTTP (-m): what is served, to whom, and that no
# client of it, however hostile, touches the bridge.
. "${0%/*}/lib.sh"

return=$(printf '\r')

# served [OPTIONS]: starts a bridge with metrics at a free port of $host; sets
# $metrics to that.
served()
{
	bridge_start -m "$host:0" "$@" || return
	metrics=$(metrics_port)
	assertNotNull 'no port for metrics in the log' "$metrics"
}

metrics_port()
{
	sed -n '/event=listen service=metrics/{s/.*://p;q;}' "$log"
}

# ask REQUEST: sends it, a format of printf; the answer is in $work/answer.
ask()
{
	# shellcheck disable=SC2059 # it is a format
	printf "$1" | socat -t 5 - "TCP:$client_host:$metrics" \
	    >"$work/answer" 2>/dev/null
}

# get PATH: asks for it, and asserts that it is there; the body is in
# $work/body.
get()
{
	ask "GET $1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
	answered '200 OK' || return
	sed '1,/^.$/d' "$work/answer" >"$work/body"
}

# answered STATUS: asserts that the first line of the answer says so.
answered()
{
	read -r first <"$work/answer"
	assertEquals "HTTP/1.0 $1$return" "$first"
}

# header NAME: prints the value of it.
header()
{
	sed -n "s/^$1: \(.*\).\$/\1/p" "$work/answer"
}

# metric NAME: asks, and prints the value of that one, labels included.
metric()
{
	get /metrics
	awk -v name="$1" '$1 == "tcpbridge_" name { print $2 }' "$work/body"
}

metric_is()
{
	[ "$(metric "$2")" = "$1" ]
}

# wait_metric VALUE NAME: asserts that it gets there in time.
wait_metric()
{
	wait_until 10 metric_is "$1" "$2"
	assertEquals "$2" "$1" "$(metric "$2")"
}

# faults: prints what is wrong with $work/body as Prometheus text 0.0.4, more
# strictly than Prometheus is: each metric has HELP, then TYPE, then samples.
faults()
{
	awk '
	function fault(what) { print NR ": " what ": " $0 }
	/\r/ { fault("carriage return") }
	/^# HELP / {
		if ($3 in helped) fault("second HELP")
		if ($3 !~ /^tcpbridge_[a-z_]+$/ || NF < 4) fault("bad HELP")
		if (name != "" && !sampled) fault("no sample before")
		helped[name = $3] = 1; typed = sampled = 0
		next
	}
	/^# TYPE / {
		if ($3 != name || typed || sampled || NF != 4) fault("bad TYPE")
		if ($4 != (name ~ /_total$/ ? "counter" : "gauge"))
			fault("wrong type")
		typed = 1
		next
	}
	{
		labels = $0
		if (!sub("^" name, "", labels) || !typed) fault("not of " name)
		if (!sub(/ -?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?$/, "", labels))
			fault("no value")
		if ((name labels) in seen) fault("sample twice")
		seen[name labels] = sampled = 1
		label = "[a-z]+=\"([^\"\\\\]|\\\\[\\\\\"n])*\""
		if (labels !~ "^([{]" label "(," label ")*[}])?$")
			fault("bad labels")
	}
	END { if (!sampled) fault("no sample at the end") }' "$work/body"
}

test_the_text_is_what_prometheus_reads()
{
	served -n 'pump 7 = {north}'
	get /metrics || return
	assertNull "$(faults)" "$(faults)"
	assertEquals 'ends in a newline' 1 "$(tail -c 1 "$work/body" | wc -l | tr -d ' ')"
	assertContains "$(header Content-Type)" 'text/plain; version=0.0.4'
	assertEquals "$(size "$work/body")" "$(header Content-Length)"
	command -v promtool >/dev/null || return 0
	wrong=$(promtool check metrics <"$work/body" 2>&1)
	assertTrue "$wrong" $?
	assertNull "$wrong" "$wrong"
}

test_every_metric_is_there_with_help_and_type()
{
	served
	get /metrics || return
	for name in bytes_received_total bytes_sent_total bytes_dropped_total \
	    bytes_unacked_total drops_total held_bytes away_bytes slow \
	    capacity_bytes connected silent heard_seconds leaving \
	    connects_total disconnects_total refused_total \
	    accept_failures_total log_lost_lines_total start_time_seconds build_info; do
		assertEquals "HELP, TYPE and samples of $name" 3 "$(sed -n \
		    -e "s/^# \([A-Z]*\) tcpbridge_$name .*/\1/p" \
		    -e "s/^tcpbridge_${name}[{ ].*/sample/p" "$work/body" |
		    sort -u | grep -c .)"
	done
}

test_every_label_is_there()
{
	served
	get /metrics || return
	for sample in 'bytes_sent_total{dir="A->B"}' 'held_bytes{dir="B->A"}' \
	    'connected{side="A"}' 'connects_total{side="B"}'; do
		assertContains "$(cat "$work/body")" "tcpbridge_$sample 0"
	done
	for reason in eof reset 'timeout",cause="idle' \
	    'timeout",cause="write' 'timeout",cause="keepalive' replaced \
	    shutdown error; do
		assertEquals "$reason" 2 "$(grep -c \
		    "^tcpbridge_disconnects_total{side=\"[AB]\",reason=\"$reason\"} 0$" "$work/body")"
	done
	for reason in denied busy limit; do
		assertEquals "$reason" 2 "$(grep -c \
		    "^tcpbridge_refused_total{side=\"[AB]\",reason=\"$reason\"} 0$" "$work/body")"
	done
}

test_version_and_name_are_told()
{
	served -n 'pump 7 = {north}'
	get /metrics || return
	version=$($TCPBRIDGE -V)
	cat >"$work/expected" <<-END
	tcpbridge_build_info{version="${version#tcpbridge }",name="pump 7 = {north}"} 1
	END
	grep -q -x -F -f "$work/expected" "$work/body"
	met=$?
	assertTrue "no $(cat "$work/expected")" "$met"
}

test_the_start_is_told_in_seconds_of_the_clock()
{
	before=$(date +%s)
	served -b 7k
	after=$(date +%s)
	start=$(metric start_time_seconds)
	assertTrue "$start" "[ ${start%.*} -ge $before -a ${start%.*} -le $after ]"
	assertEquals 7168 "$(metric capacity_bytes)"
}

# values_agree: asserts that both directions are as the totals say.
values_agree()
{
	totals_ask
	get /metrics
	differs=$(awk '
	BEGIN {
		name["received"] = "bytes_received_total"
		name["sent"] = "bytes_sent_total"
		name["dropped"] = "bytes_dropped_total"
		name["unacked"] = "bytes_unacked_total"
		name["drops"] = "drops_total"
		name["held"] = "held_bytes"
	}
	NR == FNR { value[$1] = $2; next }
	/ event=stats dir=/ {
		for (i = 4; i <= NF; i++) {
			split($i, pair, "=")
			if (pair[1] == "dir")
				dir = pair[2]
			else if (pair[1] in name)
				total["tcpbridge_" name[pair[1]] \
				    "{dir=\"" dir "\"}"] = pair[2]
		}
	}
	END {
		for (metric in total) {
			n++
			if (value[metric] != total[metric])
				print metric, value[metric], "not", total[metric]
		}
		if (n != 12)
			print n, "totals"
	}' "$work/body" "$log")
	assertNull "$differs" "$differs"
}

# A rule for a metric that is not there never fires.
test_the_alert_rules_of_the_manual_are_about_metrics_that_are_there()
{
	served
	get /metrics || return
	sed -n '/^groups:/,/^\.Ed/{/^\.Ed/d;p;}' "$here/../tcpbridge.1" >"$work/rules"
	named=$(grep -o 'tcpbridge_[a-z_]*' "$work/rules" | sort -u)
	assertNotNull 'no rules' "$named"
	for name in $named; do
		grep -q "^${name}[{ ]" "$work/body"
		assertTrue "no $name" $?
	done
	assertContains "$(cat "$work/body")" 'reason="replaced"}'
	command -v promtool >/dev/null || return 0
	wrong=$(promtool check rules "$work/rules" 2>&1)
	assertTrue "$wrong" $?
}

test_the_values_are_those_of_the_totals()
{
	for s in A B; do
		face "$s"
		served -b 1000
		client_open "$side" && client_open "$other" || return
		client_say "$side" '0123456789'
		client_say "$other" 'abc'
		client_hears "$other" '0123456789'
		client_hears "$side" 'abc'
		wait_metric 3 "bytes_sent_total{dir=\"$back\"}"
		client_close "$other" && client_lost "$other"
		head -c 900 /dev/zero >"$work/$side.fifo"
		wait_metric 900 "held_bytes{dir=\"$dir\"}"
		head -c 300 /dev/zero >"$work/$side.fifo"
		wait_metric 300 "bytes_dropped_total{dir=\"$dir\"}"
		values_agree
	done
}

test_who_comes_goes_and_is_refused_is_counted_by_reason()
{
	for s in A B; do
		face "$s"
		served "-$other" 10.0.0.0/8
		client_open "$side" one && client_open "$side" two || return
		wait_metric 1 "connected{side=\"$side\"}"
		client_close two
		wait_metric 1 "disconnects_total{side=\"$side\",reason=\"eof\"}"
		wait_metric 0 "connected{side=\"$side\"}"
		wait_metric 1 "disconnects_total{side=\"$side\",reason=\"replaced\"}"
		wait_metric 2 "connects_total{side=\"$side\"}"
		client_dial "$other" stranger
		wait_metric 1 "refused_total{side=\"$other\",reason=\"denied\"}"
		wait_metric 0 "connects_total{side=\"$other\"}"
	done
}

# heard_for SECS SIDE: tells whether it was heard that long ago, or longer.
heard_for()
{
	[ "$(metric "heard_seconds{side=\"$2\"}")" -ge "$1" ]
}

test_the_seconds_since_a_side_was_heard_are_told()
{
	for s in A B; do
		face "$s"
		served
		wait_until 10 heard_for 2 "$side"
		assertTrue 'nobody was heard since the start' $?
		client_open "$side" || return
		heard_for 2 "$side"
		assertTrue 'a client that came was not heard' $?
		client_say "$side" 'here'
		wait_metric 4 "bytes_received_total{dir=\"$dir\"}"
		heard_for 2 "$side"
		assertFalse 'it was heard' $?
		wait_until 10 heard_for 2 "$other"
	done
}

test_a_timeout_has_its_cause()
{
	for s in A B; do
		face "$s"
		served -i 0.1
		client_open "$side" || return
		wait_metric 1 "disconnects_total{side=\"$side\",reason=\"timeout\",cause=\"idle\"}"
		wait_metric 0 "disconnects_total{side=\"$side\",reason=\"timeout\",cause=\"write\"}"
		wait_metric 0 "disconnects_total{side=\"$other\",reason=\"timeout\",cause=\"idle\"}"
	done
}

test_health_is_the_name_of_the_state()
{
	served
	for s in IDLE ONLY_A PAIRED ONLY_B; do
		case $s in
		ONLY_A)	client_open A ;;
		PAIRED)	client_open B ;;
		ONLY_B)	client_close A; client_lost A ;;
		esac
		get /healthz
		assertEquals "$s" "$(cat "$work/body")"
		assertEquals "$(size "$work/body")" "$(header Content-Length)"
	done
}

test_head_is_answered_as_get_without_the_body()
{
	served
	for path in /metrics /healthz; do
		get "$path"
		length=$(size "$work/body")
		ask "HEAD $path HTTP/1.0\r\n\r\n"
		answered '200 OK'
		assertEquals "$length" "$(header Content-Length)"
		assertNull "$(sed '1,/^.$/d' "$work/answer")"
	done
}

# asked STATUS REQUEST...: asserts that each is answered so.
asked()
{
	status=$1
	shift
	for request in "$@"; do
		ask "$request\r\n\r\n"
		answered "$status" || echo "    for: $request"
	done
}

test_other_paths_are_not_found()
{
	served
	asked '404 Not Found' 'GET / HTTP/1.0' 'GET /metric HTTP/1.1' \
	    'GET /metricsx HTTP/1.1' 'GET /healthz/ HTTP/1.0' \
	    'HEAD /x HTTP/1.0' 'GET /../metrics HTTP/1.0'
}

test_other_methods_are_not_allowed()
{
	served
	for method in POST PUT DELETE OPTIONS get GETS HEADER; do
		asked '405 Method Not Allowed' "$method /metrics HTTP/1.1"
		assertEquals 'GET, HEAD' "$(header Allow)"
	done
}

# As proxies ask (RFC 9112, 3.2.2); what stands before the path is any host.
test_a_target_may_be_absolute()
{
	served
	asked '200 OK' 'GET http://localhost/metrics HTTP/1.1' \
	    "GET http://$host:$metrics/healthz HTTP/1.0" \
	    'GET HTTP://[::1]:9/healthz?a=/b HTTP/1.1'
	assertEquals IDLE "$(tail -n 1 "$work/answer")"
	asked '404 Not Found' 'GET http://localhost/ HTTP/1.1' \
	    'GET http://localhost HTTP/1.1' 'GET http://metrics HTTP/1.1'
}

test_a_star_is_a_target()
{
	served
	asked '405 Method Not Allowed' 'OPTIONS * HTTP/1.1'
	asked '404 Not Found' 'GET * HTTP/1.1'
}

# Some clients end a request with one line too many (RFC 9112, 2.2).
test_empty_lines_before_a_request_are_passed_over()
{
	served
	asked '200 OK' '\r\nGET /healthz HTTP/1.1' '\n\r\nGET /healthz HTTP/1.0'
	assertEquals IDLE "$(tail -n 1 "$work/answer")"
}

test_what_is_no_request_is_a_bad_request()
{
	served
	asked '400 Bad Request' 'rubbish' 'GET' 'GET /metrics' \
	    'GET /metrics FTP/1.0' 'GET metrics HTTP/1.0' ' GET / HTTP/1.0' \
	    '\377\001' 'GET  /metrics HTTP/1.0' 'HTTP/1.0 200 OK'
}

test_a_request_may_come_in_pieces_and_with_bare_newlines()
{
	served
	(
		for piece in G 'ET /hea' 'lthz HTTP/1.1
Host: x' '
' '
'; do
			printf '%s' "$piece"
			sleep 0.1
		done
	) | socat -t 5 - "TCP:$host:$metrics" >"$work/answer"
	answered '200 OK'
	assertEquals IDLE "$(tail -n 1 "$work/answer")"
}

test_curl_can_scrape_it()
{
	need curl || return 0
	served
	client_open A || return
	curl -sS -f -m 10 "http://$host:$metrics/metrics" >"$work/body"
	assertTrue 'status of curl' $?
	assertNull "$(faults)" "$(faults)"
	assertContains "$(cat "$work/body")" 'tcpbridge_connected{side="A"} 1'
	assertEquals 'ONLY_A' "$(curl -sS -f -m 10 "http://$host:$metrics/healthz?a=b")"
	assertContains "$(curl -sS -I -m 10 "http://$host:$metrics/metrics")" 'HTTP/1.0 200 OK'
}

test_it_is_served_on_loopback_only_unless_told()
{
	bridge_start -m '*:0' -m 0
	places=$(sed -n 's/.*service=metrics addr=\(.*\):[0-9]*$/\1/p' "$log")
	assertNotNull 'nothing is served' "$places"
	others=$(echo "$places" | grep -v -x -F -e 127.0.0.1 -e '[::1]')
	assertNull "also on $others" "$others"
	metrics=$(metrics_port)
	client_host=localhost
	get /healthz
	client_host=$host
	bridge_start -4 -m '*:0'
	wait_log 'event=listen service=metrics addr=0\.0\.0\.0:[1-9]'
	need_ipv6 || return 0
	bridge_start -m '[::1]:0'
	wait_log 'event=listen service=metrics addr=\[::1\]:[1-9]'
	bridge_start
	refute_log 'service='
}

test_an_address_in_use_ends_the_program()
{
	served
	bridge_run -m "$host:$metrics" "$host:0" "$host:0"
	assertEquals 1 "$bridge_status"
	assertContains "$(cat "$work/stderr")" "$host:$metrics"
	client_open A || return
}

# scraper NAME: a client of the metrics that says what it is told to, and
# stays; to be used as those of a side.
scraper()
{
	port_saved=$port_B
	port_B=$metrics
	client_dial B "$1"
	port_B=$port_saved
}

# The bridge is stopped meanwhile, so that their time does not run.
test_a_fifth_client_takes_the_place_of_the_oldest()
{
	served
	bridge_freeze
	scraper oldest
	scrapers_wait 1
	for name in two three four five; do
		scraper "$name"
		client_say "$name" 'GET /healthz HTTP/1.0

'
	done
	scrapers_wait 5
	clock_read
	asked=$clock
	bridge_thaw
	client_ends oldest 1
	clock_read
	took=$((clock - asked))
	assertTrue "after $took hundredths" "[ $took -lt $((150 * PATIENCE)) ]"
	for name in two three four five; do
		wait_until 5 grep -q IDLE "$work/$name.got"
		assertTrue "client $name has no answer" $?
	done
}

# scrapers_wait N: waits until so many have dialled.
scrapers_wait()
{
	port_saved=$port_B
	port_B=$metrics
	clients_wait B "$1"
	port_B=$port_saved
}

test_a_client_gets_its_answer_while_others_keep_silent()
{
	served
	bridge_freeze
	for name in one two three four; do
		scraper "$name"
	done
	scrapers_wait 4
	bridge_thaw
	get /healthz
	assertEquals IDLE "$(cat "$work/body")"
}

test_a_client_is_closed_after_two_seconds_and_not_before()
{
	served
	clock_read
	asked=$clock
	scraper mute
	scraper slow
	client_say slow 'GET /heal'
	sleep 0.5
	client_say slow 'thz HTTP/1.0

'
	wait_until 1 grep -q IDLE "$work/slow.got"
	assertTrue 'no answer after half a second' $?
	client_ends mute 3
	clock_read
	took=$((clock - asked))
	assertTrue "closed after $took hundredths" "[ $took -ge 200 ]"
	client_ends slow 3
}

test_a_client_that_trickles_gets_no_more_time()
{
	served
	scraper slow
	for letter in G E T ' ' / m; do
		client_say slow "$letter"
		sleep 0.6
	done
	client_ends slow 1
	client_heard_nothing slow
}

# request_of SIZE BEFORE BEHIND: a request of so many bytes, with letters
# between these two.
request_of()
{
	{
		printf '%b' "$2"
		head -c $(($1 - ${#2} - ${#3})) /dev/zero | tr '\000' x
		printf '%b' "$3"
	} | socat -t 5 - "TCP:$host:$metrics" >"$work/answer" 2>/dev/null
}

test_a_request_line_above_two_kilobytes_is_refused()
{
	served
	request_of 2000 '/healthz?' ' HTTP/1.0\n\n'
	answered '400 Bad Request'
	request_of 2000 'GET /healthz?' ' HTTP/1.0\n\n'
	answered '200 OK'
	request_of 2100 'GET /healthz?' ' HTTP/1.0\n\n'
	answered '400 Bad Request'
	request_of 100000 'GET /healthz?' ' HTTP/1.0\n\n'
	assertNotContains "$(cat "$work/answer")" IDLE
	get /healthz
}

# Browsers and proxies send cookies and more.
test_what_follows_the_request_line_may_be_long()
{
	served
	request_of 100000 'GET /healthz HTTP/1.0\r\nX: ' '\r\n\r\n'
	answered '200 OK'
}

# What the metrics are asked by those who mean harm: silence, noise, requests
# without end, whole ones of which the answer is never read, quick ones.
hostile()
{
	for name in one two three four five six; do
		scraper "$name"
	done
	client_feed one /dev/zero
	client_feed two /dev/urandom
	request_of 100000 'GET /healthz?' ' HTTP/1.0\n\n'
	printf 'GET /metrics HTTP/1.0\n\n' >"$work/three.fifo"
	client_freeze three
	"${PEER:-true}" burst "$metrics" 200 3000 >/dev/null
}

test_hostile_clients_do_not_touch_the_bridge()
{
	need_peer || return 0
	make_bytes "$work/sent_A" 3000000
	make_bytes "$work/sent_B" 3000000
	served
	client_open A && client_open B || return
	hostile
	client_feed A "$work/sent_A"
	client_feed B "$work/sent_B"
	hostile
	client_hears_file A "$work/sent_B"
	client_hears_file B "$work/sent_A"
	wait_total 0 held 'A->B'
	wait_total 0 held 'B->A'
	refute_log 'event=drop'
	client_stays A
	client_stays B
	values_agree
}

test_clients_leave_nothing_behind()
{
	need_proc && need_peer && need_native || return 0
	served
	get /healthz
	wait_until 5 descriptors_are "$(descriptors)"
	open=$(descriptors)
	hostile
	clients_end
	wait_until 5 descriptors_are "$open"
	assertEquals 'descriptors' "$open" "$(descriptors)"
	assert_idle
}

descriptors_are()
{
	[ "$(descriptors)" -eq "$1" ]
}

# shellcheck source=/dev/null
. "$SHUNIT2"

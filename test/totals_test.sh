#!/bin/sh
#
# Totals over time (-t): lines in the log, or on a terminal one live line that
# is redrawn in place, with the log above it.
. "${0%/*}/lib.sh"

# ---- in the log ----

# stamps PATTERN: prints the seconds of the day of each line that matches.
stamps()
{
	grep -e "$1" "$log" | sed 's/^time=.*T\(..\):\(..\):\([0-9.]*\)Z.*/\1 \2 \3/' |
	    awk '{ print $1 * 3600 + $2 * 60 + $3 }'
}

# periods MIN MAX PATTERN: asserts that the seconds between each line that
# matches and the next are in these bounds; around midnight any are.
periods()
{
	wrong=$(stamps "$3" | awk -v min="$1" -v max="$2" -v slow="$PATIENCE" '
	NR > 1 && $1 >= last && ($1 - last < min || $1 - last > max * slow) {
		print $1 - last
	}
	{ last = $1 }')
	assertNull "seconds between totals: $wrong" "$wrong"
}

test_the_totals_come_that_often()
{
	bridge_start -t 1
	wait_count 3 'level=info event=stats dir=A->B received=0 '
	wait_count 3 'level=info event=stats dir=B->A received=0 '
	wait_count 3 'level=info event=stats side=A connected=0 '
	wait_count 3 'level=info event=stats side=B connected=0 '
	periods 0.9 1.6 'event=stats dir=A->B'
}

test_the_first_totals_come_not_before()
{
	bridge_start -t 1
	wait_log 'event=stats side=B'
	periods 0.99 1.6 'event=ready\|event=stats dir=A->B'
}

test_the_period_may_be_shorter_than_a_second()
{
	bridge_start -t 0.25
	wait_count 6 'event=stats dir=A->B'
	periods 0.1 0.8 'event=stats dir=A->B'
}

test_the_totals_over_time_are_those_of_now()
{
	for s in A B; do
		face "$s"
		bridge_start -t 0.3
		client_open "$side" || return
		client_say "$side" '0123456789'
		wait_log "event=stats dir=$dir received=10 sent=0 dropped=0 held=10 "
		client_open "$other" || return
		wait_log "event=stats dir=$dir received=10 sent=10 dropped=0 held=0 "
		wait_log "event=stats side=$other connected=1 session=2 .*connects=1\$"
	done
}

test_without_the_option_and_with_zero_no_totals_come()
{
	for option in '' '-t 0'; do
		# shellcheck disable=SC2086 # words
		bridge_start $option
		sleep 1
		refute_log 'event=stats'
	done
}

# ---- on a terminal ----

cr=$(printf '\r')
clear=$cr$(printf '\033[K')

# terminal_open COLUMNS: opens a terminal so wide, made by socat, for the
# standard error of the next bridge.  All that comes there is in $work/screen;
# the lines of it, without the live line before them, are the log.
terminal_open()
{
	clients_end
	bridge_stop
	rm -f "$work/wire"
	mkfifo "$work/wire"
	: >"$log"
	: >"$work/screen"
	tee -a "$work/screen" <"$work/wire" | terminal_log &
	terminal_make "$work/wire"
	terminal_width "$1"
	bridge_before="exec 2>'$work/tty'"
}

# terminal_keep: the bridge is there; the terminal ends as clients do.
terminal_keep()
{
	# shellcheck disable=SC2034 # the name is used by client_pid
	client_terminal=$terminal
	clients="$clients terminal"
}

# terminal_start COLUMNS OPTIONS...: starts a bridge in such a terminal.
terminal_start()
{
	terminal_open "$1"
	shift
	bridge_start "$@"
	terminal_keep
}

# terminal_log: what it reads goes to the log, a line when it is complete.
terminal_log()
{
	while IFS= read -r line; do
		printf '%s\n' "${line##*"$clear"}"
	done >>"$log"
}

terminal_width()
{
	stty cols "$1" rows 24 <"$work/tty"
}

# live: prints the live line as it stands, or nothing if a log line does.
live()
{
	tr '\r' '\n' <"$work/screen" | tail -n 1 | cut -c 4-
}

lives()
{
	live | grep -q -e "$1"
}

# wait_live PATTERN: asserts that the live line matches in time.
wait_live()
{
	wait_until 10 lives "$1"
	met=$?
	assertTrue "the live line is '$(live)', not '$1'" "$met"
}

# draws: prints each state of the live line that was shown, without the log.
draws()
{
	tr '\r' '\n' <"$work/screen" | sed -n "s/^$(printf '\033')\\[K//p" |
	    grep -v '^time='
}

# widest: prints how wide the live line ever was.
widest()
{
	draws | awk '{ if (length > w) w = length } END { print w + 0 }'
}

test_a_terminal_gets_one_live_line_with_the_state()
{
	terminal_start 80 -t 0.2
	wait_live '^IDLE'
	client_open A || return
	wait_live '^ONLY_A .* 127\.0\.0\.1 -$'
	client_open B || return
	wait_live '^PAIRED .* 127\.0\.0\.1 127\.0\.0\.1$'
	client_close A
	wait_live '^ONLY_B .* - 127\.0\.0\.1$'
	client_close B
	wait_live '^IDLE'
	refute_log 'event=stats'
}

test_the_live_line_has_rates_each_way()
{
	terminal_start 80 -t 1
	client_open A && client_open B || return
	for try in 1 2 3 4 5; do
		head -c 3000 /dev/zero >"$work/A.fifo"
		head -c 42 /dev/zero >"$work/B.fifo"
		wait_until 3 rated && break
	done
	rated
	assertTrue "no rates after $try tries in $(draws | sort -u)" $?
	wait_live ' A->B \.\.\. 0B/s B->A \.\.\. 0B/s '
}

# rated: tells whether the line once had 3000 and 42 bytes a second, in one
# period or in two; up to a tenth less, for a busy machine draws late.
rated()
{
	draws | grep -q -e 'A->B ... 3\.0kB/s' -e 'A->B ... 2\.[7-9]kB/s' &&
	    draws | grep -q -e 'B->A ... 4[0-2]B/s' -e 'B->A ... 3[89]B/s'
}

test_the_live_line_has_the_held_bytes_as_a_bar_and_the_drops()
{
	terminal_start 80 -t 0.2 -b 1000
	client_open A || return
	wait_live '^ONLY_A dropped 0B .* A->B \.\.\. .* B->A \.\.\. '
	client_say A 'a'
	wait_live ' A->B #\.\. .* B->A \.\.\. '
	head -c 599 /dev/zero >"$work/A.fifo"
	wait_live ' A->B ##\. .* B->A \.\.\. '
	head -c 400 /dev/zero >"$work/A.fifo"
	wait_live ' dropped 0B .* A->B ### .* B->A \.\.\. '
	head -c 77 /dev/zero >"$work/A.fifo"
	wait_live '^ONLY_A dropped 77B .* A->B ### .* B->A \.\.\. '
}

test_the_live_line_tells_when_each_side_was_heard_or_went()
{
	for s in A B; do
		face "$s"
		terminal_start 80 -t 0.2
		wait_live " $side absent [1-9][0-9]*s "
		client_open "$side" || return
		wait_live " $side 0s"
		wait_live " $side [2-9]s"
		wait_live " $other absent [2-9]s"
		client_say "$side" 'here'
		wait_live " $side 0s"
		client_close "$side"
		wait_live " $side absent 0s"
	done
}

test_the_live_line_tells_who_is_slow()
{
	terminal_start 80 -t 0.5 -l -b 1k
	client_open A || return
	head -c 50000 /dev/zero >"$work/A.fifo" &
	feeder=$!
	wait_live ' A->B ### slow 0B/s B->A \.\.\. 0B/s '
	client_open B || return
	wait_live ' A->B [.#]* [^s]'
	end_process "$feeder"
}

# What matters most fits in 40 columns, all but the peers in 60.  Long peers
# keep their ends.
test_what_matters_most_stays_on_a_narrow_terminal()
{
	terminal_start 100 -t 0.2
	client_open A && client_open B || return
	wait_live '^PAIRED dropped 0B A [0-9]s B [0-9]s A->B \.\.\. [0-9.k]*B/s B->A \.\.\. [0-9.k]*B/s 127\.0\.0\.1 127\.0\.0\.1$'
	terminal_width 60
	wait_live '^PAIRED dropped 0B A [0-9]*s B [0-9]*s A->B \.\.\. [0-9]*B/s B->A \.\.\. [0-9]*B/s$'
	terminal_width 40
	wait_live '^PAIRED dropped 0B A [0-9]*s B [0-9]*s A->B [.]'
	terminal_width 75
	wait_live ' B->A \.\.\. 0B/s \.\.[.0-9]*\.1 [.0-9]*\.1$'
}

# A line of the log takes the place of the live line, which then comes again
# below it; so all lines are complete, in order, and nothing else is there.
test_log_lines_are_above_the_live_line_undisturbed()
{
	terminal_start 80 -t 0.2
	client_open A && client_open B || return
	for word in one two three; do
		client_say A "$word"
		client_open B || return
		wait_live '^PAIRED'
	done
	bridge_stop
	assertEquals 4 "$(log_count ' event=connect side=B ')"
	assertEquals 'shards' "$(grep -c '' "$log")" "$(log_count '^time=[^ ]*Z level=')"
	assertEquals 'draws in log lines' 0 "$(tr '\r' '\n' <"$work/screen" |
	    grep time= | grep -c 'PAIRED.*time=')"
}

test_the_live_line_is_cut_and_never_fills_the_terminal()
{
	terminal_start 80 -t 0.1
	client_open A && client_open B || return
	make_traffic
	for columns in 80 60 40 20 5 2; do
		terminal_width "$columns"
		wait_until 10 narrowed
		: >"$work/screen"
		wait_live "^$(printf PAIRED | cut -c "-$((columns - 1))")"
		wide=$(widest)
		assertTrue "$wide of $columns" "[ $wide -gt 0 -a $wide -lt $columns ]"
	done
}

narrowed()
{
	live >"$work/live"
	[ -s "$work/live" ] && [ "$(size "$work/live")" -le "$columns" ]
}

# make_traffic: so many bytes that the totals are long.
make_traffic()
{
	head -c 123456 /dev/zero >"$work/A.fifo"
	head -c 123456 /dev/zero >"$work/B.fifo"
	wait_until 10 test "$(size "$work/A.got")" -ge 123456
}

test_the_live_line_grows_with_the_terminal_again()
{
	terminal_start 30 -t 0.1
	client_open A && client_open B || return
	wait_live '^PAIRED'
	lives 'B->A'
	met=$?
	assertFalse "not cut: $(live)" "$met"
	terminal_width 80
	wait_live '^PAIRED .* B->A .*/s '
}

test_a_wide_terminal_is_not_filled()
{
	terminal_start 200 -t 0.2
	client_open A && client_open B || return
	make_traffic
	wait_live '^PAIRED .* B->A '
	assertTrue "$(widest) columns" "[ $(widest) -lt 100 ]"
}

# is_clean: tells whether nothing stands after the last line.
is_clean()
{
	rest=$(tail -c 200 "$work/screen" | tr '\n' '|')
	rest=${rest##*'|'}
	[ -z "${rest##*"$clear"}" ]
}

assert_clean()
{
	is_clean
	met=$?
	assertTrue "left: $rest" "$met"
}

test_the_terminal_is_left_clean()
{
	terminal_start 80 -t 0.2
	client_open A || return
	wait_live '^ONLY_A'
	bridge_stop
	wait_log 'event=stop'
	assert_clean
}

# No line of the log takes the place of the live line then.
test_the_terminal_is_left_clean_under_quiet()
{
	terminal_open 80
	bridge_launch -q -t 0.2
	terminal_keep
	wait_live '^IDLE'
	kill -TERM "$bridge_pid"
	bridge_ends 0
	wait_until 5 is_clean
	assert_clean
}

test_a_terminal_without_the_option_has_no_live_line()
{
	terminal_start 80
	client_open A || return
	client_close A
	bridge_stop
	assertEquals 'escapes' 0 "$(tr -cd '\033\r' <"$work/screen" | wc -c | tr -d ' ')"
}

# A stopped terminal must not stop the bridge.
test_a_stopped_terminal_slows_nothing()
{
	make_bytes "$work/sent" 1000000
	terminal_start 80 -t 0.01
	client_open A && client_open B || return
	kill -STOP "$terminal"
	sleep 1
	client_feed A "$work/sent"
	client_hears_file B "$work/sent"
	kill -CONT "$terminal"
	client_say B 'fine'
	client_hears A 'fine'
}

# ---- in a real one ----

tmux_do()
{
	tmux -S "$work/tmux" -f /dev/null "$@"
}

# tmux_start COLUMNS OPTIONS: a shell in a terminal of tmux so wide, and in
# that a bridge with the options.
tmux_start()
{
	free_ports
	# shellcheck disable=SC2034 # it is for lib.sh
	undo='tmux_do kill-server 2>/dev/null'
	tmux_do new-session -d -x "$1" -y 24 "PS1='\$ ' exec sh" || return
	shift
	tmux_do send-keys "$TCPBRIDGE $* $host:$port_A $host:$port_B" Enter
	wait_screen 'event=ready'
}

# screen: prints what is seen.
screen()
{
	tmux_do capture-pane -p
}

screen_has()
{
	screen | grep -q -e "$1"
}

wait_screen()
{
	wait_until 10 screen_has "$1"
	met=$?
	assertTrue "no '$1' on the screen:
$(screen)" "$met"
}

test_a_real_terminal_shows_one_live_line_below_the_log()
{
	need tmux && need_native || return 0
	tmux_start 180 -t 0.2 || return
	wait_screen '^IDLE'
	client_dial A
	wait_screen '^ONLY_A'
	client_dial B
	wait_screen '^PAIRED'
	client_say A '0123456789'
	wait_screen '^PAIRED dropped 0B A .* B->A '
	assertEquals 'live lines' 1 "$(screen | grep -c '^IDLE\|^ONLY\|^PAIRED')"
	assertContains "$(screen | grep . | tail -n 1)" PAIRED
	assertEquals 'log lines' 2 "$(screen | grep -c '^time=.* event=connect .* held=0$')"
}

test_a_real_terminal_is_clean_after_an_interrupt()
{
	need tmux && need_native || return 0
	tmux_start 180 -t 0.2 || return
	wait_screen '^IDLE'
	tmux_do send-keys C-c
	wait_screen '^\$ *$'
	wait_screen '^time=.* event=stop signal=SIGINT lost=0$'
	assertEquals 'live lines' 0 "$(screen | grep -c '^IDLE')"
}

# What stood there when it got narrower is wrapped by the terminal itself; but
# each draw since then fits in a row, so it stays in its place.
test_a_real_terminal_may_be_resized()
{
	need tmux && need_native || return 0
	tmux_start 180 -t 0.1 || return
	client_dial A && client_dial B
	wait_screen '^PAIRED .* B->A'
	tmux_do resize-window -x 40 -y 24
	wait_screen '^PAIRED.\{1,33\}$'
	rows=$(screen | grep -c .)
	sleep 0.7
	assertEquals 'rows, some draws later' "$rows" "$(screen | grep -c .)"
	assertContains "$(screen | grep . | tail -n 1)" PAIRED
	tmux_do resize-window -x 180 -y 24
	wait_screen '^PAIRED .* B->A'
}

# shellcheck source=/dev/null
. "$SHUNIT2"

#!/bin/sh
#
# -f file: what a stop would lose is written there, and the next start takes it
# up.  A file that is not whole, or not the bridge's own, ends the start and
# stays as it is.
# shellcheck disable=SC2034 # some variables are for lib.sh
. "${0%/*}/lib.sh"

held=$work/held

# restart [OPTIONS]: ends the clients, stops the bridge, and starts one with the
# same -f.
restart()
{
	bridge_start -f "$held" "$@"
}

# held_for SIDE TEXT [OPTIONS]: a bridge holds this text for an absent side.
held_for()
{
	face "$1"
	text=$2
	shift 2
	bridge_start -f "$held" "$@" && client_open "$other" || return
	client_say "$other" "$text"
	wait_total ${#text} held "$back"
	client_close "$other"
}

# saved_for SIDE TEXT: the same, and a stop has saved it.
saved_for()
{
	rm -rf "$held" "$held.new"
	held_for "$@" && bridge_stop
	[ -f "$held" ]
	assertTrue 'nothing was saved' $?
}

test_a_restart_delivers_what_was_held()
{
	for s in A B; do
		held_for "$s" 'one, ' || return
		restart && client_open "$other" || return
		client_say "$other" 'two, '
		wait_total 10 held "$back"
		restart && client_open "$side" || return
		client_hears "$side" 'one, two, '
		client_open "$other" && client_say "$other" 'three'
		client_hears "$side" 'one, two, three'
		assert_accounted
	done
}

# Both clients send much and read nothing, so their systems acknowledge a part
# of what is for them.  The rest, and no more, goes to the next ones.
test_both_directions_are_kept_whole_and_in_order()
{
	need_linux || return 0
	make_bytes "$work/from_A" 300000
	make_bytes "$work/from_B" 400000
	bridge_start -f "$held"
	mute_open A && mute_open B || return
	wait_total 300000 received 'A->B'
	wait_total 400000 received 'B->A'
	mute_close A && mute_close B || return
	totals_ask
	rest_of A 'A->B'
	rest_of B 'B->A'
	restart
	wait_log "event=restore dir=A->B bytes=$(size "$work/rest_A") "
	wait_log "event=restore dir=B->A bytes=$(size "$work/rest_B") "
	client_open A && client_open B || return
	client_hears_file B "$work/rest_A"
	client_hears_file A "$work/rest_B"
	assert_accounted
}

# mute_open SIDE: a client sends $work/from_SIDE, and never reads.
mute_open()
{
	mute_seen=$(log_count "event=connect side=$1")
	socat -u "OPEN:$work/from_$1,ignoreeof" \
	    "TCP:$host:$(port "$1"),rcvbuf=4096" 2>/dev/null &
	eval "client_mute_$1=$!"
	clients="$clients mute_$1"
	wait_until 10 log_has $((mute_seen + 1)) "event=connect side=$1"
	assertTrue "no client at side $1" $?
}

mute_close()
{
	client_kill "mute_$1"
	client_lost "$1"
}

# rest_of SIDE DIR: puts what was not sent of $work/from_SIDE into a file.
rest_of()
{
	tail -c +$(($(total sent "$2") + 1)) "$work/from_$1" >"$work/rest_$1"
	assertEquals "held $2" "$(size "$work/rest_$1")" "$(total held "$2")"
	assertTrue 'nothing was sent' "[ $(total sent "$2") -gt 0 ]"
}

# The client that is there hangs until the stop is over.  What its system had
# acknowledged is in its socket, and the next client gets the rest.
test_what_a_client_did_not_acknowledge_is_kept()
{
	need_linux && need_native || return 0
	make_bytes "$work/sent" 20000
	bridge_start -f "$held" && client_open A || return
	client_open B B rcvbuf=2048 || return
	client_freeze B
	client_feed A "$work/sent"
	wait_total 20000 received 'A->B'
	tell TERM "$bridge_pid"
	bridge_ends 0
	wait_log 'event=stop signal=SIGTERM lost=0'
	client_thaw B
	client_ends B
	before=$(size "$work/B.got")
	assertTrue "it got $before bytes" "[ $before -gt 0 ]"
	tail -c +$((before + 1)) "$work/sent" >"$work/rest"
	restart && client_open B || return
	client_hears_file B "$work/rest"
}

# A signal that comes twice, as from a terminal that closes, leaves no time to
# send.  What is in the sockets has room in the file.
test_what_had_arrived_is_kept_also_by_a_stop_at_once()
{
	need_linux && need ss || return 0
	for s in A B; do
		face "$s"
		bridge_start -f "$held" && client_open "$side" || return
		bridge_freeze
		client_say "$side" 'in the socket'
		client_waits "$side" 13
		tell TERM "$bridge_pid"
		tell HUP "$bridge_pid"
		bridge_thaw
		bridge_ends 0
		restart && client_open "$other" || return
		client_hears "$other" 'in the socket'
	done
}

test_what_came_from_the_file_is_counted()
{
	for s in A B; do
		saved_for "$s" 'seven b' || return
		bridge_start -f "$held"
		wait_log "level=info event=restore dir=$back bytes=7 age=[0-9.]*$"
		wait_log "level=info event=restore dir=$dir bytes=0 "
		wait_total 7 received "$back"
		assertEquals 'held' 7 "$(total held "$back")"
	done
}

test_save_and_restore_are_told_under_q()
{
	saved_for A 'some' || return
	free_ports
	for round in first second; do
		bridge_launch -q -f "$held" -- "$host:$port_A" "$host:$port_B"
		wait_log 'level=info event=restore dir=B->A bytes=4 '
		wait_log 'event=ready'
		tell TERM "$bridge_pid"
		bridge_ends 0
		wait_log 'level=info event=save dir=B->A bytes=4$'
		wait_log 'level=info event=save dir=A->B bytes=0$'
		wait_log 'level=info event=stop signal=SIGTERM lost=0$'
	done
}

# mode FILE: prints it as ls does.
mode()
{
	# shellcheck disable=SC2012 # the name is known
	ls -l "$1" | cut -c 1-10
}

test_only_its_user_can_read_the_file()
{
	for mask in 0 077 0777; do
		bridge_before="umask $mask"
		saved_for A 'for my eyes' || return
		assertEquals "umask $mask" -rw------- "$(mode "$held")"
		client_heard_all_of_it || return
	done
	: >"$held.new"
	chmod 666 "$held.new"
	held_for A 'for my eyes' && bridge_stop
	assertEquals 'one that was there' -rw------- "$(mode "$held")"
}

client_heard_all_of_it()
{
	bridge_start -f "$held" && client_open A && client_hears A "$text"
}

# files: prints the names of all files beside the one of -f, and its own.
files()
{
	(cd "$work" && echo held*)
}

test_the_file_is_removed_by_the_start()
{
	saved_for A 'once' || return
	assertEquals 'held' "$(files)"
	bridge_start -f "$held"
	[ ! -e "$held" ]
	assertTrue 'the file is still there' $?
	client_open A && client_hears A once
	restart
	refute_log 'event=restore'
	client_open A && client_heard_nothing A
}

test_nothing_is_left_if_nothing_is_held()
{
	rm -rf "$held"
	bridge_start -f "$held" && client_open A && client_open B || return
	client_say A 'passed on'
	client_hears B 'passed on'
	bridge_stop
	assertEquals 'held*' "$(files)"
	refute_log 'event=save'
	wait_log 'level=info event=stop signal=SIGTERM lost=0'
}

test_nothing_is_written_while_it_runs()
{
	rm -rf "$held"
	held_for A 'it would wear flash memory' || return
	assertEquals 'size' 0 "$(size "$held.new")"
	[ ! -e "$held" ]
	assertTrue 'the file is there' $?
}

test_a_relative_name_will_do()
{
	mkdir "$work/here"
	# shellcheck disable=SC2089 # it is evaluated
	bridge_before="cd '$work/here'"
	case $TCPBRIDGE in
	/*) ;;
	*) skip 'the command is relative, too' || return 0 ;;
	esac
	bridge_start -f kept && client_open A || return
	client_say A 'near'
	wait_total 4 held 'A->B'
	bridge_stop
	assertEquals 'kept' "$(ls "$work/here")"
	bridge_start -f kept && client_open B || return
	client_hears B near
}

# ---- what is not taken ----

# refused TEXT [OPTIONS]: asserts that a start with the file ends with status 1
# and one line with the name and this text, and that the file stays as it is.
refused()
{
	before=$(ls -ldi "$held" 2>&1; cksum <"$held" 2>/dev/null)
	refused_text=$1
	shift
	bridge_run -f "$held" "$@" -- "$host:0" "$host:0"
	assert_refuses 1 "-f: $held" "$refused_text"
	assertEquals "the file, $refused_text" "$before" \
	    "$(ls -ldi "$held" 2>&1; cksum <"$held" 2>/dev/null)"
}

# saved_once: puts a copy of a file that a stop has saved to $work/whole.
saved_once()
{
	[ ! -s "$work/whole" ] || return 0
	saved_for A 'bytes of one direction' && cp -p "$held" "$work/whole"
}

# patched OFFSET: makes $held the whole file with one byte changed.
patched()
{
	rm -f "$held"
	(
		umask 077
		head -c "$1" "$work/whole"
		tail -c +$(($1 + 1)) "$work/whole" | head -c 1 |
		    tr '\000-\377' '\001-\377\000'
		tail -c +$(($1 + 2)) "$work/whole"
	) >"$held"
	chmod 600 "$held"
}

test_a_changed_byte_is_found()
{
	saved_once || return
	whole=$(size "$work/whole")
	for at in 0 3 14 15 16 17 19 25 40 55 70 80 90 100 120 127 128 140 \
	    $((whole - 1)); do
		patched "$at"
		assertEquals "size" "$whole" "$(size "$held")"
		refused ''
	done
}

test_a_file_that_is_cut_short_or_too_long_is_refused()
{
	saved_once || return
	whole=$(size "$work/whole")
	for length in 0 1 64 127 128 129 $((whole - 1)); do
		head -c "$length" "$work/whole" >"$held"
		refused ''
	done
	{ cat "$work/whole"; echo; } >"$held"
	refused 'damaged'
}

test_a_file_of_another_program_is_refused()
{
	for content in 'listen 4001' "$(awk 'BEGIN { while (i++ < 100)
	    print "a line of a configuration" }')" 'tcpbridge-held-1 '; do
		echo "$content" >"$held"
		refused 'not a file of tcpbridge'
	done
}

test_what_is_no_plain_file_is_refused()
{
	rm -rf "$held"
	mkdir "$held"
	refused 'not a plain file'
	rmdir "$held"
	mkfifo "$held"
	bridge_run -f "$held" -- "$host:0" "$host:0"
	assert_refuses 1 "-f: $held" 'not a plain file'
	[ -p "$held" ]
	assertTrue 'the FIFO is gone' $?
	rm "$held"
}

test_links_are_not_followed()
{
	saved_once || return
	rm -f "$held"
	cp -p "$work/whole" "$work/target"
	ln -s "$work/target" "$held"
	refused ''
	rm "$held"
	ln "$work/target" "$held"
	refused 'not a plain file'
	rm "$held"
}

# What a stop writes first has the name with .new.
test_links_are_not_followed_where_it_writes()
{
	: >"$work/target"
	for link in '-s' ''; do
		# shellcheck disable=SC2086 # without -s it is no word
		ln $link "$work/target" "$held.new"
		bridge_run -f "$held" -- "$host:0" "$host:0"
		assert_refuses 1 "-f: $held.new"
		rm -f "$held.new"
		assertEquals 'size of the target' 0 "$(size "$work/target")"
	done
}

test_what_is_not_its_own_stays_where_it_writes()
{
	echo 'notes of the user' >"$held.new"
	bridge_run -f "$held" -- "$host:0" "$host:0"
	assert_refuses 1 "-f: $held.new" 'not a file of tcpbridge'
	assertEquals 'notes of the user' "$(cat "$held.new")"
	rm "$held.new"
}

test_more_than_b_allows_is_refused()
{
	saved_for A '0123456789' || return
	refused 'more than' -b 9
	restart -b 10 && client_open A || return
	client_hears A 0123456789
}

test_an_empty_name_is_refused()
{
	bridge_run -f '' -- "$host:0" "$host:0"
	assert_refuses 2 '-f'
}

test_a_name_that_would_need_quotes_in_the_log_is_refused()
{
	bridge_run -f "$work/a\"b" -- "$host:0" "$host:0"
	assert_refuses 2 '-f'
	bridge_run -f "$work/a
b" -- "$host:0" "$host:0"
	assert_refuses 2 '-f'
}

test_a_place_that_is_not_there_is_found_at_the_start()
{
	bridge_run -f "$work/nowhere/held" -- "$host:0" "$host:0"
	assert_refuses 1 "-f: $work/nowhere/held"
}

# as_another: what runs from now on in the tests is another user, without any
# right of root's; $theirs is a directory of that user.
as_another()
{
	need_user || return
	theirs=$work/theirs
	[ -d "$theirs" ] || mkdir "$theirs"
	chown 65534:65534 "$theirs"
	chmod 755 "$work" "$theirs"
	cp "$TCPBRIDGE" "$theirs/tcpbridge" && chmod 755 "$theirs/tcpbridge"
	held=$theirs/held
	TCPBRIDGE="$as_user $theirs/tcpbridge"
	undo=as_root
}

own_bridge=$TCPBRIDGE
as_root()
{
	TCPBRIDGE=$own_bridge
	held=$work/held
	rm -rf "$work/theirs"
}

test_another_user_saves_and_takes_up()
{
	as_another || return 0
	held_for A 'as another' && restart && client_open A || return
	client_hears A 'as another'
}

test_a_file_that_can_not_be_read_is_refused()
{
	as_another || return 0
	saved_for A 'as another' || return
	chmod 0 "$held"
	refused 'Permission denied'
	chown 0 "$held"
	chmod 644 "$held"
	refused 'not a plain file of this user'
}

test_a_place_that_can_not_be_written_is_found_at_the_start()
{
	as_another || return 0
	chown 0 "$theirs"
	bridge_run -f "$held" -- "$host:0" "$host:0"
	assert_refuses 1 "-f: $theirs/"
	: >"$held.new"
	chown 65534 "$held.new"
	bridge_run -f "$held" -- "$host:0" "$host:0"
	assert_refuses 1 "-f: $theirs/"
}

# ---- what can go wrong ----

# No file of this process may grow beyond 64 KiB.
test_a_stop_that_can_not_save_tells_what_is_lost()
{
	# shellcheck disable=SC3045 # every shell has it
	(ulimit -f 64) 2>/dev/null || { skip 'no ulimit -f' || return 0; }
	bridge_before='ulimit -f 64'
	for s in A B; do
		face "$s"
		bridge_start -f "$held" && client_open "$side" || return
		client_pour "$side" 100000
		wait_total 100000 held "$dir"
		echo 'of somebody else' >"$held"
		bridge_stop
		wait_log "level=warn event=save_failed file=\"$held\" error=\".*\"\$"
		wait_log 'level=warn event=stop signal=SIGTERM lost=100000$'
		assertEquals 'of somebody else' "$(cat "$held")"
		assertEquals 'held' "$(files)"
		rm "$held"
	done
}

# The disk is a file system of 16 KiB, in a name space of the bridge's own.
test_a_full_disk_at_the_stop_is_told()
{
	need_linux && need_root && need_native && need unshare || return 0
	mkdir "$work/disk"
	unshare -m mount -t tmpfs -o size=16k tmpfs "$work/disk" 2>/dev/null ||
	    { skip 'no disk of its own' || return 0; }
	# shellcheck disable=SC2016 # another shell's
	echo 'mount -t tmpfs -o size=16k tmpfs "$1" && shift && exec "$@"' \
	    >"$work/apart"
	bridge_under="unshare -m sh $work/apart $work/disk"
	bridge_start -f "$work/disk/held" && client_open A || return
	client_pour A 50000
	wait_total 50000 held 'A->B'
	bridge_stop
	wait_log 'level=warn event=save_failed .* error="No space left'
	wait_log 'level=warn event=stop signal=SIGTERM lost=50000$'
}

test_two_bridges_do_not_share_a_file()
{
	rm -rf "$held"
	held_for A 'of the first one' || return
	bridge_run -f "$held" -- "$host:0" "$host:0"
	assert_refuses 1 "-f: $held" 'another tcpbridge'
	restart && client_open A || return
	client_hears A 'of the first one'
}

# A file beside it that somebody tidied away is no loss, nor does it let
# another bridge in its place.
test_the_file_it_would_write_may_be_removed_while_it_runs()
{
	rm -rf "$held"
	held_for A 'still here' || return
	rm "$held.new"
	restart && client_open A || return
	client_hears A 'still here'
}

# A client that does not close makes a stop take 2 seconds.
test_a_start_waits_for_a_bridge_that_stops()
{
	bridge_start -f "$held"
	client_wait=60
	client_open A || return
	client_wait=0.5
	client_say A 'handed over'
	wait_total 11 held 'A->B'
	next_start || return
	client_open B && client_hears B 'handed over'
}

# next_start: starts the next bridge while this one stops.  Both write into one
# log.
next_start()
{
	first=$bridge_pid bridge_pid='' clients=''
	tell TERM "$first"
	bridge_launch -f "$held" -- "$host:$port_A" "$host:$port_B"
	bridge_is_ready
	end_process "$first"
	client_kill A
	assertEquals 'order' 'stop ready ' "$(sed -n \
	    's/.* event=\(stop\|ready\) .*/\1/p' "$log" | tr '\n' ' ')"
}

test_a_killed_bridge_does_not_hinder_the_next_one()
{
	rm -rf "$held"
	held_for A 'lost' || return
	bridge_kill
	held_for A 'kept' || return
	restart && client_open A || return
	client_hears A 'kept'
}

test_a_port_in_use_keeps_the_file()
{
	saved_for A 'patience' || return
	bridge_start
	cp -p "$held" "$work/before"
	bridge_run -f "$held" -- "$host:$port_A" "$host:$port_B"
	assert_refuses 1 'in use'
	assert_same_bytes 'the file' "$work/before" "$held"
	restart && client_open A || return
	client_hears A patience
}

test_what_is_too_old_at_the_start_expires()
{
	for s in A B; do
		saved_for "$s" 'too late' || return
		sleep 1
		bridge_start -f "$held" -H 1
		wait_log "event=restore dir=$back bytes=8 age=[1-9]"
		wait_log "level=warn event=drop dir=$back .* reason=expired bytes=8 "
		client_open "$side" && client_heard_nothing "$side"
		assert_accounted
	done
}

test_what_is_not_too_old_does_not_expire()
{
	saved_for A 'in time' || return
	bridge_start -f "$held" -H 60 && client_open A || return
	client_hears A 'in time'
	refute_log 'event=drop'
}

test_a_restart_does_not_make_it_younger()
{
	saved_for A 'from long ago' || return
	for round in first second; do
		sleep 0.6 2>/dev/null || sleep 1
		restart
		bridge_stop
	done
	age=$(log_value age 'event=restore dir=B->A')
	awk "BEGIN { exit !($age >= 1.2) }"
	assertTrue "its age is $age s" $?
}

test_a_restart_is_a_reload()
{
	sh "$tests/tools/restarts" 3
	assertEquals 'status of test/tools/restarts' 0 $?
}

# shellcheck source=/dev/null
. "$SHUNIT2"

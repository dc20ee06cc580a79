#!/bin/sh
#
# -o: two clients that are there together are a session.  When one goes, the
# other one gets what had arrived, and is closed; nothing of a session reaches
# a client of a later one.
. "${0%/*}/lib.sh"

# session_starts [OPTIONS]: a bridge with -o, and a client on each side.
session_starts()
{
	pair_start -o "$@"
}

# is_over SIDE: asserts that the client of that side is closed for the session.
is_over()
{
	client_ends "$1"
	wait_log "event=disconnect side=$1 .* reason=session "
}

# dialler_start SIDE COMMAND...: dials that side again and again, each time with
# this socat address at the other end.
dialler_start()
{
	dialled=$(port "$1")
	shift
	while :; do
		socat "TCP:$host:$dialled" "$@"
		sleep 0.05 2>/dev/null || sleep 1
	done >"$work/dialler.out" 2>&1 </dev/null &
	# shellcheck disable=SC2034 # eval reads it
	client_dialler=$!
	clients="$clients dialler"
}

# tries COMMAND...: prints how many of 20 calls in a row succeed.
tries()
{
	tried=0
	worked=0
	while [ "$tried" -lt 20 ]; do
		tried=$((tried + 1))
		! "$@" "$tried" || worked=$((worked + 1))
	done
	echo "$worked"
}

# holds_some DIR: tells whether anything is held in that direction.
holds_some()
{
	totals_come && [ "$(total held "$1")" -gt 0 ]
}

# ---- who goes, and who is closed ----

test_when_a_client_goes_the_other_one_is_closed()
{
	for s in A B; do
		face "$s"
		session_starts || return
		client_say "$other" 'hello'
		client_hears "$side" 'hello'
		client_close "$side"
		wait_log "event=disconnect side=$side .* reason=eof "
		is_over "$other"
		wait_log 'reason=session .* state=IDLE$'
	done
}

test_without_it_the_other_one_stays()
{
	pair_start || return
	client_close A
	client_lost A
	client_stays B
}

test_a_reset_ends_a_session()
{
	bridge_start -o
	client_open A A linger=0 && client_open B || return
	client_reset A
	is_over B
	wait_log 'event=disconnect side=A .* reason=reset '
}

test_a_newcomer_ends_the_session_of_the_one_it_replaces()
{
	for s in A B; do
		face "$s"
		session_starts || return
		client_open "$side" new || return
		is_over "$other"
		client_open "$other" || return
		client_say "$other" 'to the new one'
		client_hears new 'to the new one'
		client_say new 'and back'
		client_hears "$other" 'and back'
		client_heard_nothing "$side"
	done
}

test_who_is_refused_ends_nothing()
{
	session_starts -r 60 -A 127.0.0.0/8 || return
	client_dial A new
	wait_log 'event=refuse side=A .* reason=busy'
	client_say A 'still here'
	client_hears B 'still here'
	client_stays B
}

test_with_e_a_half_closed_client_stays_in_its_session()
{
	client_wait=60
	session_starts -v -e 5 || return
	# shellcheck disable=SC2154 # client_dial sets it
	end_process "$holder_A"
	wait_log 'event=half_close side=A'
	client_say B 'the answer'
	client_hears A 'the answer'
	client_stays B
	wait_log 'event=disconnect side=A .* reason=eof ' 10
	wait_log 'event=disconnect side=B .* reason=session '
	assert_span 5 'event=half_close' 'reason=eof'
}

# ---- the last bytes ----

test_the_last_bytes_of_who_goes_arrive()
{
	make_bytes "$work/last" 3000000
	for s in A B; do
		face "$s"
		session_starts || return
		client_freeze "$other"
		client_feed "$side" "$work/last"
		client_fed "$side"
		client_close "$side"
		wait_log "event=disconnect side=$side .* received=3000000 " 20
		client_thaw "$other"
		client_hears_file "$other" "$work/last"
		is_over "$other"
		refute_log 'event=drop'
		assert_accounted
	done
}

test_the_last_bytes_before_a_reset_arrive()
{
	need_peer || return 0
	bridge_start -o
	client_open B || return
	"$PEER" slam "$port_A" 'last words'
	client_hears B 'last words'
	is_over B
}

test_who_does_not_close_is_closed_after_two_seconds()
{
	client_wait=60
	session_starts -v || return
	client_say A 'bye'
	client_close A
	client_hears B 'bye'
	wait_log 'event=disconnect side=B .* reason=session '
	assert_span 2 'event=disconnect side=A' 'event=disconnect side=B'
}

test_who_takes_nothing_is_closed_after_w()
{
	stuck_start B -o -v -w 3 || return
	client_pour A 200000
	client_close A
	wait_log 'event=disconnect side=B .* reason=session' 20
	wait_log 'event=drop dir=A->B .* reason=session'
	assert_accounted
}

# ---- what is dropped ----

test_what_is_held_for_who_goes_is_dropped_and_told()
{
	for s in A B; do
		face "$s"
		stuck_start "$side" -o || return
		client_pour "$other" 3000000
		wait_total 3000000 received "$back"
		client_kill "$side"
		is_over "$other"
		wait_log "event=drop dir=$back .* reason=session"
		client_open "$side" && client_open "$other" || return
		client_say "$other" 'new'
		client_hears "$side" 'new'
		wait_total 0 held "$back"
	done
}

test_what_is_sent_after_the_end_is_dropped()
{
	client_wait=60
	session_starts || return
	client_close A
	client_lost A
	client_say B 'nobody hears this'
	wait_log 'event=drop dir=B->A .* reason=session bytes=17 '
	client_open A || return
	wait_log 'event=disconnect side=B .* reason=session '
	client_open B || return
	client_say B 'new'
	client_hears A 'new'
}

test_lossless_drops_at_the_end_of_a_session_too()
{
	stuck_start B -o -l || return
	client_gush A 3000000
	wait_until 10 holds_some 'A->B'
	client_kill B
	is_over A
	wait_log 'event=drop dir=A->B .* reason=session'
	wait_total 0 held 'A->B'
}

# ---- who is alone ----

test_what_a_lone_client_says_first_is_held_for_its_session()
{
	for s in A B; do
		face "$s"
		bridge_start -o
		client_open "$side" || return
		client_say "$side" 'SSH-2.0'
		wait_total 7 held "$dir"
		client_open "$other" || return
		client_hears "$other" 'SSH-2.0'
		client_say "$other" 'hello'
		client_hears "$side" 'hello'
	done
}

test_what_a_client_said_that_left_alone_is_dropped()
{
	bridge_start -o
	client_open A || return
	client_say A 'hello'
	wait_total 5 held 'A->B'
	client_close A
	wait_log 'event=drop dir=A->B .* reason=session bytes=5 '
	client_open B && client_open A || return
	client_say A 'again'
	client_hears B 'again'
}

test_a_newcomer_waits_until_the_session_before_it_is_over()
{
	stuck_start B -o || return
	client_pour A 1000000
	wait_total 1000000 received 'A->B'
	client_close A
	client_lost A
	client_open A new || return
	client_say new 'new'
	client_thaw B
	head -c 1000000 /dev/zero >"$work/old"
	client_hears_file B "$work/old"
	is_over B
	client_open B || return
	client_hears B 'new'
	client_say B 'back'
	client_hears new 'back'
}

test_a_stop_tells_what_is_lost()
{
	stuck_start B -o || return
	client_pour A 3000000
	wait_total 3000000 received 'A->B'
	bridge_stop
	wait_log 'level=warn event=stop .* lost=[1-9]'
	refute_log 'event=drop'
}

test_it_excludes_what_does_not_fit()
{
	for options in '-o -f x' '-f x -o' '-o -w 0' '-w 0 -o'; do
		# shellcheck disable=SC2086 # words
		bridge_run $options 127.0.0.1:0 127.0.0.1:0
		assert_refuses 2 '-o: excludes' || echo "    for: $options"
	done
}

# ---- protocols ----

# give_up TEXT: somebody dials side B, says that, and goes.  What answers belongs
# to nobody any more.
give_up()
{
	# shellcheck disable=SC2059 # it has escapes
	printf "$1" | socat -t 0.2 - "TCP:$host:$port_B" >"$work/given_up" 2>&1
}

# ssh_try N: somebody gives up; then a new session that has the other end print a word.
ssh_try()
{
	give_up 'SSH-2.0-lost\r\n'
	# shellcheck disable=SC2086 # a list of words
	[ "$($deadline ssh -F /dev/null -i "$work/id" -p "$port_B" -o BatchMode=yes \
	    -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
	    -o ConnectTimeout=5 -o LogLevel=ERROR "$(id -un)@$host" \
	    "echo word $1" 2>>"$work/ssh.err" </dev/null)" = "word $1" ]
}

test_each_ssh_session_works_at_the_first_try()
{
	sshd=$(PATH=$PATH:/usr/sbin:/usr/local/sbin command -v sshd)
	[ -n "$sshd" ] || { skip 'sshd is not installed'; return 0; }
	need ssh ssh-keygen && need_root || return 0
	ssh-keygen -q -t ed25519 -N '' -f "$work/id" &&
	    ssh-keygen -q -t ed25519 -N '' -f "$work/hostkey" || return
	mkdir -p /run/sshd
	bridge_start -o
	dialler_start A "EXEC:$sshd -i -f /dev/null -h $work/hostkey -o StrictModes=no \
-o UsePAM=no -o PermitRootLogin=yes -o AuthorizedKeysFile=$work/id.pub"
	assertEquals 'of 20 ssh sessions worked' 20 "$(tries ssh_try)"
}

# tls_try: somebody gives up; then a new session that asks for a file over HTTP; the server closes
# when it has sent it.
tls_try()
{
	give_up '\026\003\001\002'
	printf 'GET /file HTTP/1.0\r\n\r\n' |
	    $deadline openssl s_client -connect "$host:$port_B" -quiet \
	    -ign_eof >"$work/answer" 2>>"$work/tls.err"
	sed '1,/^.$/d' "$work/answer" | cmp -s - "$work/www/file"
}

# tls_server: sets $tls_port to that of a TLS server for files in $work/www.
tls_server()
{
	openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
	    -keyout "$work/key.pem" -out "$work/cert.pem" 2>"$work/req.err" &&
	    mkdir "$work/www" && seq 20000 >"$work/www/file" || return
	(cd "$work/www" && exec openssl s_server -accept 127.0.0.1:0 -WWW \
	    -cert "$work/cert.pem" -key "$work/key.pem") \
	    >"$work/server.out" 2>&1 </dev/null &
	# shellcheck disable=SC2034 # eval reads it
	client_server=$!
	clients="$clients server"
	wait_until 10 grep -q '^ACCEPT .*:[1-9]' "$work/server.out"
	tls_port=$(sed -n 's/^ACCEPT .*:\([0-9]*\)$/\1/p' "$work/server.out")
	[ -n "$tls_port" ] || skip 'openssl s_server does not tell its port'
}

test_each_tls_session_works_at_the_first_try()
{
	need openssl seq || return 0
	bridge_start -o
	tls_server || return 0
	dialler_start A "TCP:127.0.0.1:$tls_port"
	assertEquals 'of 20 TLS sessions worked' 20 "$(tries tls_try)"
}

# Modbus RTU has no number in its frames, so an answer that comes late is taken
# for the next one, and all that follow.
test_no_answer_is_taken_for_another_one()
{
	need_peer || return 0
	bridge_start -o
	"$PEER" slave "$port_B" 30 2>"$work/slave.err" &
	# shellcheck disable=SC2034 # eval reads it
	client_slave=$!
	clients="$clients slave"
	wait_log 'event=connect side=B'
	answers=$("$PEER" master "$port_A" 60 $((2000 * PATIENCE)))
	assertEquals 'right=40 wrong=0 none=0' "$answers"
}

# shellcheck source=/dev/null
. "$SHUNIT2"

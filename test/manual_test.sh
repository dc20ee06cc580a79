#!/bin/sh
#
# The manual tells all there is: events, reasons, causes and keys of the log
# are taken from tcpbridge.c, options from its getopt() string, and each has
# to be explained where a reader looks for it.
. "${0%/*}/lib.sh"

source=$here/../tcpbridge.c
manual=$here/../tcpbridge.1
readme=$here/../README.md

# The source without comments, a log_event() or log_begin() call or the whole
# file in a line.
# calls.txt: "EVENT the strings of the call, and names of lists in it"
# strings.txt: all strings of the source, one a line
awk -v calls="$work/calls.txt" -v strings="$work/strings.txt" '
{ text = text $0 "\n" }
END {
	n = split(text, part, /\/\*/)
	code = part[1]
	for (i = 2; i <= n; i++) {
		sub(/^([^*]|\*+[^*\/])*\*+\//, " ", part[i])
		code = code part[i]
	}
	while (match(code, /"([^"\\\n]|\\.)*"|log_(event|begin)\(/)) {
		found = substr(code, RSTART, RLENGTH)
		between = substr(code, 1, RSTART - 1)
		code = substr(code, RSTART + RLENGTH)
		over = sub(/\)[ \t\n]*;.*/, "", between)
		if (event != "" && between ~ /service_names/)
			said = said " side=A"
		if (over && event != "") {
			print event, said >calls
			event = ""
		}
		if (found ~ /^log_/) {
			naming = 1
			continue
		}
		found = substr(found, 2, length(found) - 2)
		print found >strings
		if (naming && between ~ /^[^;{]*,[ \t\n]*$/) {
			event = found
			said = ""
		} else if (event != "")
			said = said " " found
		naming = 0
	}
}' "$source"

# What does not come in a log_event() call: the line before one that was lost,
# and what is told of a disconnect where it is found.
sed -n -e 's/^event=\([a-z_][a-z_]*\) /\1 /p' \
    -e 's/^[a-z]* cause=/disconnect cause=/p' -e 's/^ by=/disconnect&/p' \
    -e 's/^ error=/disconnect&/p' "$work/strings.txt" >>"$work/calls.txt"
sed -n 's/^\([a-z]*\) cause=\(.*\)/\1\
\2/p' "$work/strings.txt" >"$work/causes.txt"
cat "$work/causes.txt" >>"$work/strings.txt"

# keys: prints the keys in what it reads, one a line.
keys()
{
	sed 's/%[.0-9]*[a-z]/ /g' | grep -o -e '[a-z_]*=' |
	    sed -n 's/^\([a-z][a-z_]*\)=$/\1/p' | sort -u
}

# section NAME: prints that section of the manual.
section()
{
	sed -n "/^\\.Sh $1\$/,/^\\.Sh/p" "$manual"
}

# entry EVENT: prints what DIAGNOSTICS says of it.
entry()
{
	section DIAGNOSTICS | awk -v event="$1" '
	/^\.It Cm event=/ || /^\.S[hs] / { on = $3 == "event=" event }
	on'
}

# words: prints the words of what it reads, one a line.
words()
{
	tr -s ' ' '\n'
}

# marked: prints the words that are marked as Cm in what it reads.
marked()
{
	sed -n -e 's/=.*//' -e 's/.*Cm //p' | words
}

# assert_all WHAT: asserts that each word in $work/wanted is in $work/named.
assert_all()
{
	lacking=$(sort -u "$work/named" |
	    awk 'FNR == NR { named[$0]; next } !($0 in named)' - "$work/wanted" |
	    tr '\n' ' ')
	assertNull "$1: $lacking" "$lacking"
}

# assert_only WHAT: asserts that each word in $work/named is in $work/wanted.
assert_only()
{
	lacking=$(sort -u "$work/wanted" |
	    awk 'FNR == NR { wanted[$0]; next } !($0 in wanted)' - "$work/named" |
	    tr '\n' ' ')
	assertNull "$1: $lacking" "$lacking"
}

events()
{
	sed 's/ .*//' "$work/calls.txt" | sort -u
}

# What is looked for in the source was found: these events and keys are the
# least.
test_the_source_is_understood()
{
	events >"$work/named"
	printf '%s\n' listen ready connect disconnect drop drop_end refuse \
	    stats log_lost stop >"$work/wanted"
	assert_all 'events not found in the source'
	sed -n 's/^disconnect //p' "$work/calls.txt" | keys >"$work/named"
	printf '%s\n' side session peer reason cause error by duration received \
	    sent unacked held state >"$work/wanted"
	assert_all 'keys of disconnect not found in the source'
}

test_every_event_is_explained()
{
	events >"$work/wanted"
	sed -n 's/^\.It Cm event=//p' "$manual" >"$work/named"
	assert_all 'events not in the manual'
	assert_only 'events in the manual alone'
}

test_every_key_is_named_where_its_event_is_explained()
{
	for event in $(events); do
		sed -n "s/^$event //p" "$work/calls.txt" | keys >"$work/wanted"
		entry "$event" | marked >"$work/named"
		assert_all "keys of event=$event"
	done
}

# charset is in the head of HTTP.
test_every_key_of_every_line_is_explained()
{
	grep -v -e '{' -e '^reason=\\"' "$work/strings.txt" | keys |
	    grep -v -x charset >"$work/wanted"
	section DIAGNOSTICS | marked >"$work/named"
	assert_all 'keys'
}

# reasons: prints those that the manual explains, and causes.
reasons()
{
	sed -n -e 's/^\.It Cm reason=//p' -e 's/^\.It Cm cause=//p' "$manual"
}

# A word is an event, a reason, a cause, a level or a metric; but for these,
# that are never logged by themselves.
test_every_reason_and_cause_is_explained()
{
	grep -x -e '[a-z][a-z_]*[a-z]' "$work/strings.txt" |
	    grep -v -x -e none -e unknown -e localhost -e counter -e gauge \
	    -e dir -e side -e tcpbridge -e dumb >"$work/wanted"
	{
		events
		reasons
		sed -n -e 's/^\.It Li tcpbridge_\([a-z_]*\).*/\1/p' \
		    -e 's/^\.Ql \([a-z]*\) [,:]$/\1/p' "$manual"
	} >"$work/named"
	assert_all 'words'
	reasons >"$work/named"
	assert_only 'reasons in the manual alone'
}

test_every_state_and_signal_is_named()
{
	grep -x -e '[A-Z][A-Z_]*[A-Z]' "$work/strings.txt" >"$work/wanted"
	words <"$manual" >"$work/named"
	assert_all 'words'
	assertEquals 'states' 4 "$(grep -c -x -e IDLE -e 'ONLY_[AB]' \
	    -e PAIRED "$work/wanted")"
}

# letters COLONS: prints the options of the getopt() string that are followed
# by that, one a line.
letters()
{
	grep -x -e ':[0-9A-Za-z:]*' "$work/strings.txt" | sed 's/^://' |
	    grep -o -e '[0-9A-Za-z]:*' | sed -n "s/^\\(.\\)$1\$/\\1/p"
}

test_the_synopsis_has_every_option()
{
	section SYNOPSIS >"$work/synopsis"
	letters '' >"$work/wanted"
	sed -n 's/^\.Op Fl \([0-9A-Za-z]*\)$/\1/p' "$work/synopsis" |
	    grep -o . >"$work/named"
	assert_all 'flags that are not there'
	assert_only 'no flags'
	letters : >"$work/wanted"
	sed -n -e 's/^\.O[op] Fl \(.\) Ar.*/\1/p' \
	    -e 's/^\.O[op] Fl \(.\) Oo Ar.*/\1/p' \
	    "$work/synopsis" >"$work/named"
	assert_all 'options that are not there'
	assert_only 'no options with an argument'
	assertEquals 'flags and options' "$(letters ':*' | grep -c .)" \
	    $(($(letters '' | grep -c .) + $(letters : | grep -c .)))
}

test_the_list_has_every_option()
{
	letters ':*' >"$work/wanted"
	sed -n 's/^\.It Fl \(.\).*/\1/p' "$manual" >"$work/named"
	assert_all 'options that are not there'
	assert_only 'no options'
}

test_the_help_has_every_option()
{
	$TCPBRIDGE -h >"$work/help"
	letters ':*' >"$work/wanted"
	sed -n 's/^  \(-.\), \(-.\) .*/\1 \2/p; s/^  \(-.\) .*/\1/p' \
	    "$work/help" | tr -d ' \n' | tr '-' '\n' | grep . >"$work/named"
	assert_all 'options that are not explained'
	assert_only 'no options'
	sed '/^Join/,$d' "$work/help" | bracketed >"$work/named"
	assert_all 'options that are not in its usage'
}

# bracketed: prints the letters behind each [-.
bracketed()
{
	grep -o -e '\[-[0-9A-Za-z]*' | tr -d '[-' | grep -o .
}

# The README has a table in each of its two languages.
test_the_readme_has_every_option()
{
	letters ':*' >"$work/wanted"
	sed '/^## 中文/,$d' "$readme" | tabled >"$work/named"
	assert_all 'options not in the first table'
	assert_only 'no options'
	sed '1,/^## 中文/d' "$readme" | tabled >"$work/named"
	assert_all 'options not in the second table'
	assert_only 'no options'
}

# tabled: prints the letters of the options that head the rows of a table.
tabled()
{
	sed -n 's/^| *\(`-[^|]*\)|.*/\1/p' | grep -o -e '`-[0-9A-Za-z]' |
	    tr -d '`-'
}

test_the_sections_are_in_order()
{
	assertEquals 'NAME,SYNOPSIS,DESCRIPTION,SIGNALS,ENVIRONMENT,FILES,EXIT STATUS,AT BOOT,EXAMPLES,DIAGNOSTICS,SEE ALSO,STANDARDS,HISTORY,CAVEATS,SECURITY CONSIDERATIONS,' \
	    "$(sed -n 's/^\.Sh //p' "$manual" | tr '\n' ',')"
}

test_a_sentence_begins_a_line()
{
	found=$(grep -n -e '^[^.].*[.!?] [A-Z0-9]' "$manual")
	assertNull "in the midst of a line: $found" "$found"
}

# shellcheck source=/dev/null
. "$SHUNIT2"

#!/bin/sh
#
# The one source file compiles anywhere: with no flag at all, and with every
# warning, by each compiler there is, to a program that works.
. "${0%/*}/lib.sh"

source=$here/../tcpbridge.c
strict='-std=c99 -pedantic-errors -Wall -Wextra -Werror'
stricter="$strict -Wshadow -Wconversion -Wstrict-prototypes
    -Wmissing-prototypes -Wvla -Wundef -Wpointer-arith -Wcast-qual"

# compile COMPILER FLAGS...: makes $TCPBRIDGE of it; a warning is a failure.
compile()
{
	TCPBRIDGE=$work/compiled
	rm -f "$TCPBRIDGE"
	said=$("$@" -o "$TCPBRIDGE" "$source" 2>&1)
	assertEquals "$* said" '' "$said"
	[ -x "$TCPBRIDGE" ]
	assertTrue "$* made no program" $?
}

# it_works [OPTIONS]: asserts that a bridge of it forwards both ways; bytes that
# it can't hold have to wait until those before are acknowledged.
it_works()
{
	make_bytes "$work/stream" "${stream:-100003}"
	pair_start "$@" || return
	client_feed A "$work/stream"
	client_hears_file B "$work/stream"
	client_feed B "$work/stream"
	client_hears_file A "$work/stream"
}

test_cc_without_a_flag()
{
	need "${CC:-cc}" || return 0
	compile "${CC:-cc}" && it_works
}

test_gcc()
{
	need gcc || return 0
	compile gcc && it_works
	# shellcheck disable=SC2086 # words
	compile gcc $stricter -O2 && it_works
}

test_clang()
{
	need clang || return 0
	compile clang && it_works
	# shellcheck disable=SC2086 # words
	compile clang $stricter -O2 && it_works
}

test_tcc()
{
	need tcc || return 0
	compile tcc && it_works
	compile tcc -Wall -std=c99 && it_works
}

test_musl()
{
	need musl-gcc || return 0
	compile musl-gcc && it_works
	# musl's FD_SET mixes signed and unsigned numbers.
	# shellcheck disable=SC2086 # words
	compile musl-gcc -static -Os $stricter -Wno-sign-conversion && it_works
}

# gnu89 is what gcc before 5 takes a bare cc for.
test_other_standards_take_it_too()
{
	need gcc || return 0
	for standard in gnu89 c99 c11 c17 gnu99 gnu17; do
		said=$(gcc -std=$standard -Wall -Wextra -fsyntax-only "$source" 2>&1)
		assertEquals "$standard said" '' "$said"
	done
}

test_it_allocates_no_memory()
{
	need gcc nm || return 0
	compile gcc || return
	nm -u "$TCPBRIDGE" | sed -e 's/@.*//' -e 's/.* //' >"$work/symbols"
	assertContains "$(cat "$work/symbols")" pselect
	printf '%s\n' malloc calloc realloc free strdup asprintf getline \
	    sprintf strcat gets system popen fork >"$work/unwanted"
	assertNull 'calls that it must not make' \
	    "$(grep -x -F -f "$work/unwanted" "$work/symbols")"
}

test_a_build_with_a_tiny_buffer_works()
{
	need "${CC:-cc}" || return 0
	bridge_busy=yes
	for bytes in 1 100 4096; do
		compile "${CC:-cc}" -DBUFFER_MAX=$bytes || return
		stream=$((1003 + 9 * bytes))
		it_works -g 5
		assertEquals $bytes "$(log_value buffer event=ready)"
	done
}

# shellcheck source=/dev/null
. "$SHUNIT2"

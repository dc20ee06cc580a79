/*
 * stream.c - the content of streams
 *
 * Content is never stored.  Byte number `off` of the connection with the
 * serial `id` has a value computed from both.  The simulated network moves
 * runs (id, off, len), and any byte that is altered, repeated or out of place
 * shows when the program sends it.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

static inline uint64_t
stream_word(uint64_t id, uint64_t index)
{
	uint64_t x = (index + id * UINT64_C(0x9e3779b97f4a7c15)) *
	    UINT64_C(0xff51afd7ed558ccd);

	x ^= x >> 32;
	x *= UINT64_C(0xc4ceb9fe1a85ec53);
	return x ^ x >> 29;
}

static inline unsigned char
stream_byte(uint64_t id, uint64_t off)
{
	uint64_t w = stream_word(id, off / 8);
	unsigned char b[8];

	memcpy(b, &w, 8);
	return b[off % 8];
}

void
stream_fill(unsigned char *p, uint64_t id, uint64_t off, size_t n)
{
	uint64_t w;

	for (; n > 0 && off % 8 != 0; n--)
		*p++ = stream_byte(id, off++);
	for (; n >= 8; n -= 8, p += 8, off += 8) {
		w = stream_word(id, off / 8);
		memcpy(p, &w, 8);
	}
	for (; n > 0; n--)
		*p++ = stream_byte(id, off++);
}

/* How many bytes at p are those of the stream from off on. */
size_t
stream_match(const unsigned char *p, uint64_t id, uint64_t off, size_t n)
{
	size_t done = 0;
	uint64_t w, v;

	while (done + 8 <= n && off % 8 == 0) {
		w = stream_word(id, off / 8);
		memcpy(&v, p + done, 8);
		if (v != w)
			break;
		done += 8;
		off += 8;
	}
	while (done < n && p[done] == stream_byte(id, off)) {
		done++;
		off++;
		if (off % 8 == 0 && done + 8 <= n)
			return done + stream_match(p + done, id, off,
			    n - done);
	}
	return done;
}

struct run *
runq_at(const struct runq *q, size_t i)
{
	return &q->v[(q->head + i) & (q->size - 1)];
}

void
runq_push(struct runq *q, uint64_t id, uint64_t off, uint64_t len)
{
	struct run *r;
	size_t i, size;

	if (len == 0)
		return;
	q->bytes += len;
	if (q->count > 0) {
		r = runq_at(q, q->count - 1);
		if (r->id == id && r->off + r->len == off) {
			r->len += len;
			return;
		}
	}
	if (q->count == q->size) {
		size = q->size == 0 ? 16 : 2 * q->size;
		r = malloc(size * sizeof *r);
		if (r == NULL)
			abort();
		for (i = 0; i < q->count; i++)
			r[i] = *runq_at(q, i);
		free(q->v);
		q->v = r;
		q->size = size;
		q->head = 0;
	}
	r = runq_at(q, q->count++);
	r->id = id;
	r->off = off;
	r->len = len;
}

/* Takes up to n bytes of one run off the front. */
struct run
runq_take(struct runq *q, uint64_t n)
{
	struct run *r = runq_at(q, 0), got = *r;

	if (n < got.len)
		got.len = n;
	r->off += got.len;
	r->len -= got.len;
	q->bytes -= got.len;
	if (r->len == 0) {
		q->head = (q->head + 1) & (q->size - 1);
		q->count--;
	}
	return got;
}

/* Leaves only the first n bytes. */
void
runq_cut(struct runq *q, uint64_t n)
{
	struct run *r;
	uint64_t over;

	while (q->bytes > n) {
		r = runq_at(q, q->count - 1);
		over = least(q->bytes - n, r->len);
		r->len -= over;
		q->bytes -= over;
		if (r->len == 0)
			q->count--;
	}
}

void
runq_clear(struct runq *q)
{
	q->head = q->count = 0;
	q->bytes = 0;
}

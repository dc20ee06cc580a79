/*
 * dice.c - chance
 *
 * Everything random comes from one seed, so a run can be repeated exactly.
 * The network and each client have dice of their own.
 */
#include "sim.h"

#include <math.h>

struct chance world_dice;
struct chance peer_dice[2];

static uint64_t
mix64(uint64_t x)
{
	x ^= x >> 30;
	x *= UINT64_C(0xbf58476d1ce4e5b9);
	x ^= x >> 27;
	x *= UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

void
dice_seed(struct chance *d, uint64_t seed)
{
	d->x = mix64(seed + UINT64_C(0x9e3779b97f4a7c15)) | 1;
}

/* lo to hi, small values as likely as large ones (by magnitude). */
int64_t
roll_log(struct chance *d, int64_t lo, int64_t hi)
{
	double r = (double)(dice(d) >> 11) / 9007199254740992.0;
	int64_t v = (int64_t)(exp(log((double)lo) +
	    r * (log((double)hi + 1.0) - log((double)lo))));

	return v < lo ? lo : v > hi ? hi : v;
}

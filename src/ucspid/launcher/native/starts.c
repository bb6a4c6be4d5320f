#include "starts.h"

#include "die.h"
#include "reports.h"
#include "wire.h"

enum {
	KEPT_ROOM = 64,
	MAX_LOOKED_AT = 64
};

/* Between sweeps while nothing happens: twice as long each time, and then no more. An idle launcher sleeps. */
static const uint64_t first_wait = 4 * 1000 * 1000, max_wait = 1000 * 1000 * 1000;

struct pending {
	struct start *start;
	uint64_t report;
	uint32_t slot;
};

static struct pending *pending;
static size_t count, room;
static size_t next;                        /* to be looked at */
static uint32_t places[WIRE_CAPACITY];     /* in pending, of each slot, plus one */
static uint64_t last_wait, due = UINT64_MAX;

void
starts_add(uint32_t slot, struct start *start, uint64_t report)
{
	if (count == room) {
		room = room == 0 ? KEPT_ROOM : 2 * room;
		pending = reallocate(pending, room, sizeof *pending);
	}
	pending[count++] = (struct pending){ start, report, slot };
	places[slot] = (uint32_t)count;
	last_wait = first_wait;
	due = now() + last_wait;
}

/* Takes one out, and puts the last one in its place. */
static void
end(size_t place)
{
	places[pending[place].slot] = 0;
	spawn_free(pending[place].start);
	pending[place] = pending[--count];
	if (place < count)
		places[pending[place].slot] = (uint32_t)place + 1;
	if (count == 0)
		due = UINT64_MAX;
	if (room > KEPT_ROOM && count < room / 4) {
		room /= 2;
		pending = reallocate(pending, room, sizeof *pending);
	}
}

int
starts_end(uint32_t slot, uint64_t *report)
{
	size_t place = places[slot];
	int error;

	if (place-- == 0)
		return 0;
	error = spawn_error(pending[place].start);
	*report = pending[place].report;
	end(place);
	return error;
}

void
starts_sweep(void)
{
	for (size_t looks = count < MAX_LOOKED_AT ? count : MAX_LOOKED_AT; looks > 0 && count > 0; looks--) {
		next = next < count ? next : 0;
		/* One that could not be executed is kept until its process has been reaped. */
		if (spawn_over(pending[next].start) && spawn_error(pending[next].start) == 0)
			end(next);
		else
			next++;
	}
	if (due != UINT64_MAX && due <= now()) {
		last_wait *= 2;
		due = last_wait <= max_wait ? now() + last_wait : UINT64_MAX;
	}
}

uint64_t
starts_due(void)
{
	return due;
}

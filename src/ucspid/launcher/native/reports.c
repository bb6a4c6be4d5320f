#include "reports.h"

#include <stdlib.h>
#include <string.h>

#include "die.h"
#include "table.h"

enum {
	REPORTS_IN_A_PACKET = 256,
	MAX_HELD = MAX_IN_FLIGHT / 2,
	KEPT_ROOM = 1024         /* of either list, when it is empty */
};

static const uint64_t max_hold = 2 * 1000 * 1000;

_Static_assert(REPORTS_IN_A_PACKET * sizeof(struct wire_report) <= WIRE_MAX_PACKET, "reports fit a packet");

/* Reports from first up to count wait; the first of all that are here has the number base. */
static struct wire_report *reports;
static size_t first, count, room;
static uint64_t base;
static uint64_t due = UINT64_MAX;
static uint64_t listed;           /* reports before this number were there when the last list was complete */

/* Slots to be cleared, each with the number of the report that has to be sent before. */
struct ended {
	uint64_t after;
	uint32_t slot;
};
static struct ended *ended;
static size_t first_ended, ended_count, ended_room;

uint64_t
now(void)
{
	struct timespec time;

	(void)clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000U + (uint64_t)time.tv_nsec;
}

/* Makes room for one more report: where others were that have been sent, or more. */
static void
make_room(void)
{
	if (count < room)
		return;
	if (first > count / 2) {
		memmove(reports, &reports[first], (count - first) * sizeof *reports);
		base += first;
		count -= first;
		first = 0;
	} else {
		room = room == 0 ? KEPT_ROOM : 2 * room;
		reports = reallocate(reports, room, sizeof *reports);
	}
}

struct wire_report *
report(uint8_t kind, int32_t status)
{
	struct wire_report *new;

	make_room();
	if (kind != WIRE_STARTED || count - first >= MAX_HELD)
		due = 0;
	else if (due == UINT64_MAX)
		due = now() + max_hold;
	new = &reports[count++];
	memset(new, 0, sizeof *new);
	new->kind = kind;
	new->status = status;
	if (kind == WIRE_LISTED)
		listed = base + count;
	return new;
}

uint64_t
report_slot(uint8_t kind, int32_t status, uint32_t slot)
{
	struct wire_report *new = report(kind, status);

	new->process = table[slot].process;
	new->service = table[slot].service;
	new->connection = table[slot].connection;
	memcpy(new->tag, table[slot].tag, sizeof new->tag);
	return base + count - 1;
}

void
report_ended(uint32_t slot, const struct ending *ending)
{
	struct wire_report *ended_now;

	(void)report_slot(WIRE_EXITED, ending->status, slot);
	ended_now = &reports[count - 1];
	ended_now->user = ending->user;
	ended_now->system = ending->system;
	ended_now->max_rss = ending->max_rss;
}

void
report_failed(int32_t error, uint32_t slot, uint64_t started)
{
	if (started < base + first || started < listed) {
		(void)report_slot(WIRE_FAILED, error, slot);
	} else {
		struct wire_report *held = &reports[started - base];

		held->kind = WIRE_FAILED;
		held->status = error;
		due = 0;
	}
}

void
release_when_sent(uint32_t slot)
{
	if (ended_count == ended_room && first_ended > ended_count / 2) {
		memmove(ended, &ended[first_ended], (ended_count - first_ended) * sizeof *ended);
		ended_count -= first_ended;
		first_ended = 0;
	} else if (ended_count == ended_room) {
		ended_room = ended_room == 0 ? KEPT_ROOM : 2 * ended_room;
		ended = reallocate(ended, ended_room, sizeof *ended);
	}
	ended[ended_count++] = (struct ended){ base + count, slot };
}

size_t
reports_waiting(void)
{
	return count - first;
}

uint64_t
reports_due(void)
{
	return due;
}

static void
release_ended(void)
{
	while (first_ended < ended_count && ended[first_ended].after <= base + first)
		table_release(ended[first_ended++].slot);
	if (first_ended < ended_count)
		return;
	first_ended = ended_count = 0;
	if (ended_room > KEPT_ROOM) {
		ended_room = KEPT_ROOM;
		ended = reallocate(ended, ended_room, sizeof *ended);
	}
}

bool
reports_send(const struct channel *loop)
{
	static size_t in_a_packet = REPORTS_IN_A_PACKET;
	enum tried tried = SENT;

	while (first < count && tried != NOT_NOW) {
		size_t some = count - first < in_a_packet ? count - first : in_a_packet;

		tried = channel_try(loop, &reports[first], some * sizeof *reports);
		if (tried == SENT)
			first += some;
		else if (tried == TOO_LONG && some == 1)
			die("the loop's channel has no room for a report");
		else if (tried == TOO_LONG)
			in_a_packet = some / 2;
	}
	release_ended();
	if (first < count)
		return false;
	base += count;
	first = count = 0;
	due = UINT64_MAX;
	if (room > KEPT_ROOM) {
		room = KEPT_ROOM;
		reports = reallocate(reports, room, sizeof *reports);
	}
	return true;
}

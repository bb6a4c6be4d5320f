#include "serve.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "children.h"
#include "die.h"
#include "reports.h"
#include "sessions.h"
#include "starts.h"
#include "table.h"

enum {
	BATCH = 16,
	MAX_WAITING_SIGNALS = 1024     /* for orphans; while so many wait for the master, the loop is not heard */
};

_Static_assert((int)MAX_IN_FLIGHT <= (int)WIRE_MAX_IN_FLIGHT, "the loop believes no more");

/* Of the loop's. Memory is used as far as packets are long. */
static unsigned char packet[WIRE_MAX_PACKET];

static bool draining, loop_gone, master_gone;

static void
hear_master(const struct channel *master)
{
	struct wire_orphan_exit message;

	while (!master_gone) {
		switch (orders_hear(master, &message)) {
		case HEARD_NOTHING:
			return;
		case HEARD_ORPHAN_EXIT:
			orphan_ended(message.process, &(struct ending){ message.status, message.user,
			    message.system, message.max_rss });
			break;
		case HEARD_THE_END:
			master_gone = true;
			orphans_lost();
		}
	}
}

static void
take(size_t size, const struct passed *passed, struct channel *master)
{
	if (size == 0) {
		draining = loop_gone = true;
		return;
	}
	if (passed->count > 0 && packet[0] != WIRE_START)
		die("a descriptor with a message that takes none");
	switch (packet[0]) {
	case WIRE_START:
		session_start(packet, size, passed);
		break;
	case WIRE_SIGNAL:
		session_signal(packet, size, master);
		break;
	case WIRE_LIST_SESSIONS:
		sessions_list(packet, size);
		break;
	case WIRE_DRAIN:
		if (size != WIRE_DRAIN_SIZE)
			die("a packet of %zu bytes where %d was due", size, WIRE_DRAIN_SIZE);
		draining = true;
		break;
	default:
		die("a message of kind %d from one that may not send it", packet[0]);
	}
}

/*
 * Takes some of what the loop has asked: one packet after the other, so that the sockets of one client at most are
 * here, and in a child that is made. It may rest on what the master said before, which is heard in between.
 */
static void
hear_loop(const struct channel *loop, struct channel *master)
{
	for (int count = 0; count < BATCH && !loop_gone; count++) {
		struct passed passed;
		ssize_t size = channel_receive(loop, packet, sizeof packet, MSG_DONTWAIT, &passed);

		if (size < 0)
			break;
		hear_master(master);
		take((size_t)size, &passed, master);
	}
}

/* Waits until there is something to do: no longer than until a time, or until the loop reads on if it is backed up. */
static void
wait_for_work(struct pollfd polled[3], bool backed_up)
{
	uint64_t due = starts_due(), time = 0;
	struct timespec timeout;

	if (children_due() < due)
		due = children_due();
	if (!backed_up && reports_due() < due)
		due = reports_due();
	if (due != UINT64_MAX && due != 0)
		time = now();
	time = due > time ? due - time : 0;
	timeout = (struct timespec){ (time_t)(time / 1000000000U), (long)(time % 1000000000U) };
	if (ppoll(polled, 3, due == UINT64_MAX ? NULL : &timeout, NULL) < 0) {
		if (errno != EINTR)
			die_errno("poll");
		polled[0].revents = polled[1].revents = polled[2].revents = 0;
	}
}

void
serve(struct channel *master, struct channel *loop, int signals)
{
	struct pollfd polled[3] = { [2] = { signals, POLLIN, 0 } };
	struct wire_report *hello = report(WIRE_HELLO, WIRE_VERSION);
	bool backed_up;

	hello->process = (uint32_t)getpid();
	hello->service = MAX_IN_FLIGHT;
	backed_up = !reports_send(loop);
	while (!draining || running > 0 || reports_waiting() > 0) {
		bool may_ask = reports_waiting() < MAX_WAITING_REPORTS && master->waiting < MAX_WAITING_SIGNALS;

		polled[0] = (struct pollfd){ master_gone ? -1 : master->descriptor, POLLIN, 0 };
		polled[1] = (struct pollfd){ loop_gone ? -1 : loop->descriptor, 0, 0 };
		if (master->waiting > 0)
			polled[0].events |= POLLOUT;
		if (may_ask)
			polled[1].events |= POLLIN;
		if (backed_up)
			polled[1].events |= POLLOUT;
		wait_for_work(polled, backed_up);
		if (polled[0].revents != 0) {
			channel_flush(master);
			hear_master(master);
		}
		if (may_ask && (polled[1].revents & ~POLLOUT) != 0)
			hear_loop(loop, master);
		if (polled[2].revents != 0)
			children_hear(signals);
		children_sweep();
		starts_sweep();
		if (reports_waiting() > 0 && reports_due() <= now())
			backed_up = !reports_send(loop);
	}
}

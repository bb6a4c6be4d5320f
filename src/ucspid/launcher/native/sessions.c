#include "sessions.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "children.h"
#include "die.h"
#include "programs.h"
#include "reports.h"
#include "starts.h"
#include "table.h"

static const struct ending unknown = { .status = WIRE_STATUS_UNKNOWN };

/* Copies a message of a fixed size. */
static void
take(void *to, size_t due, const void *packet, size_t size)
{
	if (size != due)
		die("a packet of %zu bytes where %zu were due", size, due);
	memcpy(to, packet, due);
}

/* Reports that a start failed because no slot was free. */
static void
failed_without_slot(const struct wire_start *head, int error)
{
	struct wire_report *failed = report(WIRE_FAILED, error);

	failed->service = head->service;
	failed->connection = head->connection;
	memcpy(failed->tag, head->tag, sizeof failed->tag);
}

void
session_start(const void *packet, size_t size, const struct passed *passed)
{
	struct wire_start head;
	struct program *program;
	struct start *start;
	uint32_t slot = NO_SLOT;
	int error = EINVAL;

	if (size < WIRE_START_SIZE)
		die("a packet of %zu bytes where %d were due", size, WIRE_START_SIZE);
	if (passed->count > WIRE_SOCKETS && passed->count != WIRE_SOCKETS_WITH_TLS)
		die("a start with %zu descriptors", passed->count);
	memcpy(&head, packet, WIRE_START_SIZE);
	program = programs_find(head.service);
	if (head.connection != 0)
		slot = table_claim(head.connection, head.service, head.tag);
	if (slot != NO_SLOT && program != NULL && passed->count > 0)
		error = spawn(&start, program, (const char *)packet + WIRE_START_SIZE, size - WIRE_START_SIZE,
		    passed, &table[slot].process);
	for (size_t i = 0; i < passed->count; i++)
		(void)close(passed->descriptors[i]);
	if (slot == NO_SLOT) {
		failed_without_slot(&head, error);
	} else if (error != 0) {
		session_failed(slot, error);
	} else {
		running_add(slot, false);
		children_started((pid_t)table[slot].process);
		starts_add(slot, start, report_slot(WIRE_STARTED, 0, slot));
	}
}

void
session_failed(uint32_t slot, int error)
{
	(void)report_slot(WIRE_FAILED, error, slot);
	release_when_sent(slot);
}

void
session_ended(uint32_t slot, const struct ending *ending)
{
	report_ended(slot, ending);
	release_when_sent(slot);
}

/* Signals the group that a child was made to lead, and the child if it is in another group, or is not there yet. */
static void
send_signal(pid_t process, int number)
{
	if (process <= 1)
		return;
	if ((kill(-process, number) < 0 && errno == ESRCH) || getpgid(process) != process)
		(void)kill(process, number);
}

void
session_signal(const void *packet, size_t size, struct channel *master)
{
	struct wire_signal message;
	uint32_t slot;

	take(&message, WIRE_SIGNAL_SIZE, packet, size);
	slot = running_find(message.process, false);
	if (slot != NO_SLOT && table[slot].connection == message.connection)
		send_signal((pid_t)message.process, message.number);
	slot = running_find(message.process, true);
	if (slot != NO_SLOT && table[slot].connection == message.connection) {
		struct wire_signal_orphan wanted;

		memset(&wanted, 0, sizeof wanted);
		wanted.kind = WIRE_SIGNAL_ORPHAN;
		wanted.number = message.number;
		wanted.process = message.process;
		channel_send(master, &wanted, WIRE_SIGNAL_ORPHAN_SIZE);
	}
}

void
sessions_list(const void *packet, size_t size)
{
	struct wire_list_sessions message;
	struct wire_report *listed;

	take(&message, WIRE_LIST_SESSIONS_SIZE, packet, size);
	for (uint32_t slot = 0; slot < table_used; slot++)
		if (is_running(slot))
			(void)report_slot(WIRE_RUNNING, 0, slot);
	listed = report(WIRE_LISTED, 0);
	listed->process = (uint32_t)getpid();
	listed->service = MAX_IN_FLIGHT;
	listed->connection = message.token;
}

void
orphan_ended(uint32_t process, const struct ending *ending)
{
	uint32_t slot = running_find(process, true);

	if (slot != NO_SLOT) {
		running_remove(slot);
		session_ended(slot, ending);
	}
}

void
orphans_lost(void)
{
	for (uint32_t slot = 0; slot < table_used; slot++) {
		if (is_orphan(slot)) {
			running_remove(slot);
			session_ended(slot, &unknown);
		}
	}
}

static uint64_t
microseconds(struct timeval time)
{
	return (uint64_t)time.tv_sec * 1000000U + (uint64_t)time.tv_usec;
}

void
child_ended(pid_t process, int status, const struct rusage *used)
{
	uint32_t slot = running_find((uint32_t)process, false);
	uint64_t started;
	int error;

	if (slot == NO_SLOT)
		return;
	error = starts_end(slot, &started);
	running_remove(slot);
	if (error != 0) {
		report_failed(error, slot, started);
		release_when_sent(slot);
	} else {
		session_ended(slot, &(struct ending){ status, microseconds(used->ru_utime),
		    microseconds(used->ru_stime), (uint64_t)used->ru_maxrss });
	}
}

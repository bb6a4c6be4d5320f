#include "orders.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "die.h"
#include "privileges.h"
#include "programs.h"
#include "reader.h"
#include "table.h"
#include "title.h"

_Static_assert((int)WIRE_TAKE_PRIVILEGES_TITLE_TEXT == 0 && (int)WIRE_TAKE_PRIVILEGES_PROFILE_PROFILE == 1 &&
    (int)WIRE_TAKE_PRIVILEGES_TAILS == 2, "the order in which begin() reads");
_Static_assert(
    (int)WIRE_PRIVILEGES_REFUSED_REASON_TEXT == 0 && (int)WIRE_PRIVILEGES_REFUSED_TAILS == 1,
    "what refuse() sends"
);

enum { MAX_REASON = 1000 };

static unsigned char packet[WIRE_MAX_PACKET];

/* Takes a packet if it is about programs; says whether it was. */
static bool
take_programs(size_t size, const struct passed *passed)
{
	if (passed->count > 0 && packet[0] != WIRE_SET_PROGRAM)
		die("a descriptor with a message that takes none");
	if (passed->count > 1)
		die("%zu descriptors with a program", passed->count);
	switch (packet[0]) {
	case WIRE_SET_PROGRAM:
		programs_set(packet, size, passed->count == 1 ? passed->descriptors[0] : -1);
		return true;
	case WIRE_ALLOW_NAMES:
		programs_allow(packet, size);
		return true;
	case WIRE_FORBID_NAMES:
		programs_forbid(packet, size);
		return true;
	case WIRE_REMOVE_PROGRAMS:
		programs_remove(packet, size);
		return true;
	default:
		return false;
	}
}

static void
take_orphans(struct orphans *orphans, size_t size)
{
	struct reader reader = reader_of(packet, size);
	struct wire_orphans head;
	struct list processes;

	read_bytes(&reader, &head, WIRE_ORPHANS_SIZE);
	processes = read_numbers(&reader, NULL);
	if (!reader_done(&reader))
		die("orphans that make no sense");
	if (orphans->room - orphans->count < processes.count) {
		orphans->room = 2 * orphans->room + processes.count;
		orphans->processes = reallocate(orphans->processes, orphans->room, sizeof(uint32_t));
	}
	while (processes.count > 0)
		orphans->processes[orphans->count++] = number_next(&processes);
}

static _Noreturn void
refuse(struct channel *master, const char *reason)
{
	unsigned char message[WIRE_PRIVILEGES_REFUSED_SIZE + sizeof(uint32_t) + MAX_REASON];
	uint32_t size = (uint32_t)strlen(reason);

	message[0] = WIRE_PRIVILEGES_REFUSED;
	memcpy(message + WIRE_PRIVILEGES_REFUSED_SIZE, &size, sizeof size);
	memcpy(message + WIRE_PRIVILEGES_REFUSED_SIZE + sizeof size, reason, size);
	channel_send(master, message, WIRE_PRIVILEGES_REFUSED_SIZE + sizeof size + size);
	exit(EXIT_SYSTEM);
}

/* Says who we are, maps the table, and takes the privileges, in this order. Returns false with a reason. */
static bool
begin(struct reader *reader, int table_descriptor, char *reason, size_t room)
{
	struct wire_take_privileges head;
	struct profile profile;
	struct text title;
	bool done;

	read_bytes(reader, &head, WIRE_TAKE_PRIVILEGES_SIZE);
	title = read_text(reader, NULL);
	done = profile_read(&profile, reader);
	if (!done) {
		(void)snprintf(reason, room, "orders that make no sense");
	} else {
		title_set(title);
		done = table_open(table_descriptor);
		if (!done)
			(void)snprintf(reason, room, "the table of sessions: %s", strerror(errno));
		(void)close(table_descriptor); /* what is mapped stays */
	}
	done = done && privileges_take(&profile, reason, room) && limits_lend(&profile, head.nofile, reason, room);
	profile_free(&profile);
	return done;
}

/* Takes the privileges, or sends the master the reason. */
static void
take_privileges(struct channel *master, size_t size, int table_descriptor)
{
	struct reader reader = reader_of(packet, size);
	struct wire_take_privileges head = { 0 };
	char reason[MAX_REASON];

	/* The version stands where it stands in every version, whatever follows. */
	memcpy(&head, packet, size < sizeof head ? size : sizeof head);
	if (head.version != WIRE_VERSION)
		(void)snprintf(reason, sizeof reason, "the launcher that is installed speaks version %u, the daemon "
		    "version %u: run ucspid upgrade, or restart it", (unsigned)WIRE_VERSION, head.version);
	else if (begin(&reader, table_descriptor, reason, sizeof reason))
		return;
	refuse(master, reason);
}

static int
compare(const void *one, const void *other)
{
	uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;

	return (a > b) - (a < b);
}

bool
orders_take(struct channel *master, int table_descriptor, struct orphans *orphans)
{
	for (;;) {
		struct passed passed;
		ssize_t size = channel_receive(master, packet, sizeof packet, 0, &passed);

		if (size <= 0)
			return false;
		if (take_programs((size_t)size, &passed))
			continue;
		if (packet[0] == WIRE_ORPHANS) {
			take_orphans(orphans, (size_t)size);
		} else if (packet[0] == WIRE_TAKE_PRIVILEGES) {
			take_privileges(master, (size_t)size, table_descriptor);
			break;
		} else {
			die("a message of kind %d where orders were due", packet[0]);
		}
	}
	if (orphans->count > 0)
		qsort(orphans->processes, orphans->count, sizeof(uint32_t), compare);
	return true;
}

enum heard
orders_hear(const struct channel *master, struct wire_orphan_exit *ended)
{
	struct passed passed;
	ssize_t size;

	while ((size = channel_receive(master, packet, sizeof packet, MSG_DONTWAIT, &passed)) > 0) {
		if (take_programs((size_t)size, &passed))
			continue;
		if (packet[0] != WIRE_ORPHAN_EXIT || size != WIRE_ORPHAN_EXIT_SIZE)
			die("a message of kind %d from one that may not send it", packet[0]);
		memcpy(ended, packet, WIRE_ORPHAN_EXIT_SIZE);
		return HEARD_ORPHAN_EXIT;
	}
	return size == 0 ? HEARD_THE_END : HEARD_NOTHING;
}

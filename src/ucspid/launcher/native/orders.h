/* What the master says: before the launcher serves, and while it does. */
#ifndef UCSPID_ORDERS_H
#define UCSPID_ORDERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "channel.h"
#include "wire.h"

/* Processes of a predecessor that still run, sorted. */
struct orphans {
	uint32_t *processes;
	size_t count, room;
};

/*
 * Takes the programs, the orphans and then the privileges, and maps the table. Returns false if the master is gone.
 * If a privilege cannot be taken, sends the master the reason, and exits with 111.
 */
bool orders_take(struct channel *master, int table_descriptor, struct orphans *);

enum heard { HEARD_NOTHING, HEARD_ORPHAN_EXIT, HEARD_THE_END };

/*
 * Takes what the master has said meanwhile, up to the first message that is not about programs. Says whether
 * there was one, or that the master is gone.
 */
enum heard orders_hear(const struct channel *master, struct wire_orphan_exit *);

#endif

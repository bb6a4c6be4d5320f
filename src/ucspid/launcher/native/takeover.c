#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "die.h"
#include "reports.h"
#include "serve.h"
#include "sessions.h"
#include "table.h"

/* Returns the place of a process among the orphans, or -1. */
static ptrdiff_t
find(const struct orphans *orphans, uint32_t process)
{
	size_t low = 0, high = orphans->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (orphans->processes[middle] < process)
			low = middle + 1;
		else
			high = middle;
	}
	return low < orphans->count && orphans->processes[low] == process ? (ptrdiff_t)low : -1;
}

void
take_over(const struct orphans *orphans)
{
	bool *claimed = allocate(orphans->count, sizeof *claimed);
	size_t next = 0;

	for (uint32_t slot = 0; slot < table_used; slot++) {
		ptrdiff_t place = table[slot].connection == 0 ? -1 : find(orphans, table[slot].process);

		if (place >= 0)
			claimed[place] = true;
	}
	for (uint32_t slot = 0; slot < table_used; slot++) {
		if (table[slot].connection == 0)
			continue;
		while (next < orphans->count && claimed[next])
			next++;
		if (table[slot].process == 0 && next < orphans->count) {
			table[slot].process = orphans->processes[next++];
			(void)report_slot(WIRE_STARTED, 0, slot);
		}
		if (find(orphans, table[slot].process) >= 0 && running_find(table[slot].process, true) == NO_SLOT)
			running_add(slot, true);
		else if (table[slot].process == 0)
			session_failed(slot, EOWNERDEAD);
		else
			session_ended(slot, &(struct ending){ .status = WIRE_STATUS_UNKNOWN });
	}
	free(claimed);
}

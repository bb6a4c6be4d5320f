/*
 * The sessions, in memory that outlives the launcher and that its successor finds, and which of them run.
 * A session costs a slot there, and 13 bytes here; a pointer more while its program is being executed.
 */
#ifndef UCSPID_TABLE_H
#define UCSPID_TABLE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "wire.h"

#define NO_SLOT UINT32_MAX

/* What the slots are; those below table_used may be taken. */
extern struct wire_session_slot *table;
extern uint32_t table_used;

/* Maps the memory and finds what a predecessor has noted. Returns false, with errno, if it cannot be mapped. */
bool table_open(int descriptor);

/* Writes a session that is about to start into a free slot; returns NO_SLOT if there is none. */
uint32_t table_claim(uint64_t connection, uint32_t service, const uint8_t tag[WIRE_TAG_SIZE]);

/* Clears a slot for another session. */
void table_release(uint32_t slot);

/* Sessions that run. An orphan's program is the master's child, since it was a predecessor's. */
extern uint32_t running;
void running_add(uint32_t slot, bool orphan);
void running_remove(uint32_t slot);
bool is_running(uint32_t slot);
bool is_child(uint32_t slot);
bool is_orphan(uint32_t slot);

/* Returns the slot of a child's session, or an orphan's: until the master says that that has ended, both may be. */
uint32_t running_find(uint32_t process, bool orphan);

#endif

/* The life of a session, from START to the report of its end. */
#ifndef UCSPID_SESSIONS_H
#define UCSPID_SESSIONS_H

#include <stddef.h>
#include <stdint.h>

#include "channel.h"

/*
 * Starts that the loop may send before it has an answer: it is told so. They are answered as soon as they are read,
 * or after the little while that STARTED may wait, so that these are many.
 */
enum { MAX_IN_FLIGHT = 64 };

/* How a program ended, and what it used: as wait4(2) says, times in µs, memory in KiB. */
struct ending {
	int32_t status;
	uint64_t user, system, max_rss;
};

/* Take messages of the loop's, which are whole packets; they die of one that is too short or too long. */
void session_start(const void *packet, size_t size, int client);
void session_signal(const void *packet, size_t size, struct channel *master);
void sessions_list(const void *packet, size_t size);

/* Report that a session's program has ended, or could not be started, and have its slot cleared after that. */
void session_ended(uint32_t slot, const struct ending *);
void session_failed(uint32_t slot, int error);

/* Reports that a predecessor's program has ended, as the master saw it; passes over what is none. */
void orphan_ended(uint32_t process, const struct ending *);

/* Reports that orphans have ended somehow: nobody will say when they do. */
void orphans_lost(void);

/* Reports the programs that have ended. A child that a program has made is not one (CLONE_PARENT). */
void sessions_reap(void);

#endif

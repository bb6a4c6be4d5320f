/* The life of a session, from START to the report of its end. */
#ifndef UCSPID_SESSIONS_H
#define UCSPID_SESSIONS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "channel.h"

/*
 * Starts that the loop may send before it has an answer: HELLO says so. With fewer there is nothing to do at times;
 * with more, programs of clients that came later share the cores with those that came earlier.
 */
enum { MAX_IN_FLIGHT = 32 };

/* How a program ended, and what it used: as wait4(2) says, times in µs, memory in KiB. */
struct ending {
	int32_t status;
	uint64_t user, system, max_rss;
};

/*
 * Take messages of the loop's, which are whole packets; they die of one that is too short or too long. The descriptors
 * that came with a start are closed; it dies of as many as no start has.
 */
void session_start(const void *packet, size_t size, const struct passed *);
void session_signal(const void *packet, size_t size, struct channel *master);
void sessions_list(const void *packet, size_t size);

/* Report that a session's program has ended, or could not be started, and have its slot cleared after that. */
void session_ended(uint32_t slot, const struct ending *);
void session_failed(uint32_t slot, int error);

/* Reports that a predecessor's program has ended, as the master saw it; passes over what is none. */
void orphan_ended(uint32_t process, const struct ending *);

/* Reports that orphans have ended somehow: nobody will say when they do. */
void orphans_lost(void);

/*
 * Reports how a child's program has ended, or why it could not be executed; passes over a child that a program has
 * made (CLONE_PARENT).
 */
void child_ended(pid_t process, int status, const struct rusage *used);

#endif

/*
 * Starting programs without waiting for them.
 *
 * A child is made by clone(2) with the launcher's memory, on a small stack of its own, and the launcher goes
 * on at once. Until it has executed its program or has ended, the child reads a block of memory that is its
 * alone, and that of its program, and makes system calls without libc. Then the kernel clears tid in the
 * block, which may be freed: what hangs in execve(2), on a disk say, holds up itself.
 * The launcher has no signal handlers, so that none can run in a child.
 */
#ifndef UCSPID_SPAWN_H
#define UCSPID_SPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "channel.h"
#include "programs.h"

struct start;

/* What programs have of their own: soft limits that are not the launcher's. To be set before the first start. */
struct limits_of_programs {
	bool has_nofile, has_cpu;
	struct rlimit nofile, cpu;
};
extern struct limits_of_programs limits_of_programs;

/*
 * Begins to start a program with the client's socket as descriptors 0 and 1, and, if there are WIRE_SOCKETS_WITH_TLS
 * of them, the other sockets as 3 and 4; and lets it set variables: NAME=VALUE strings with NUL bytes between them.
 * None of the sockets may have one of these numbers here. The kernel writes the process to *process before that runs.
 * Returns 0, or an errno if there will be no process. The sockets may be closed in either case.
 */
int spawn(struct start **, struct program *, const char *variables, size_t size, const struct passed *sockets,
    uint32_t *process);

/* Says whether the child no longer needs the block, since it has executed its program or ended. */
bool spawn_over(const struct start *);

/* Returns the errno for which a child could not execute its program, after its end; 0 if it did. */
int spawn_error(const struct start *);

/* Frees the block, once it is over. */
void spawn_free(struct start *);

#endif

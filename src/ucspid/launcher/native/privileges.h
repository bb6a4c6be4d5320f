/* Taking a privilege profile: once, at the start, in one order, any failure fatal. */
#ifndef UCSPID_PRIVILEGES_H
#define UCSPID_PRIVILEGES_H

#include <stdbool.h>
#include <stddef.h>

#include "reader.h"
#include "wire.h"

/* A profile, as a packet has it. Strings are the packet's; what is absent stays as it is. */
struct profile {
	struct wire_profile head;
	struct list groups;
	bool has_groups;
	char *cwd;               /* or NULL; the profile's own */
	char *root;
	struct reader limits;    /* after their number */
	uint32_t limits_count;
};

/* Reads the profile that a packet ends with; returns false if it is none. */
bool profile_read(struct profile *, struct reader *);
void profile_free(struct profile *);

/*
 * Takes the privileges. Returns true, or false with the reason in a buffer, for the first that the system refuses.
 * The working directory is entered with the rights of before, so that a program can be reached below a directory
 * that its user could not walk to. Every limit is set both soft and hard, but for that of CPU time, which is
 * the programs' soft limit alone, and only tried here.
 */
bool privileges_take(const struct profile *, char *reason, size_t size);

/*
 * Works out the limits that programs have and the launcher has not: of descriptors, which the daemon has raised
 * for itself, and of CPU time, since the launcher's own use is not to count. Returns as privileges_take() does.
 */
bool limits_lend(const struct profile *, uint64_t nofile, char *reason, size_t size);

#endif

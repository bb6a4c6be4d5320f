/* What may be started: the programs that the master has set, by the numbers of their services. */
#ifndef UCSPID_PROGRAMS_H
#define UCSPID_PROGRAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "names.h"
#include "reader.h"

/* A service's program. It is there until it was replaced or removed, and no child reads it any more. */
struct program {
	uint32_t service;
	uint32_t references;
	int error;                    /* what becomes standard error, or -1: the launcher's stays */
	bool client_error;            /* the client's socket becomes standard error */
	struct names *allowed;
	const char *executable;
	char **arguments;
	char **environment;           /* NAME=VALUE, each as a C string */
	size_t environment_count;
};

/* Returns a service's program, or NULL. */
struct program *programs_find(uint32_t service);

/* Gives a reference back: the program is freed with the last. */
void program_release(struct program *);

/* Take messages of the master's, which are whole packets; they die of one that makes no sense. */
void programs_set(const void *packet, size_t size, int passed);
void programs_allow(const void *packet, size_t size);
void programs_forbid(const void *packet, size_t size);
void programs_remove(const void *packet, size_t size);

#endif

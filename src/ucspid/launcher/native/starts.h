/* Starts that are not over: whose children may still use the launcher's memory. */
#ifndef UCSPID_STARTS_H
#define UCSPID_STARTS_H

#include <stdint.h>

#include "spawn.h"

/* Keeps the start of the session in a slot, and the number of its report. */
void starts_add(uint32_t slot, struct start *, uint64_t report);

/*
 * Frees what the start of a session needed whose process has ended, if that is not done yet. Returns the errno for
 * which it could not execute its program, with the number of the report that said that it was started; or 0.
 */
int starts_end(uint32_t slot, uint64_t *report);

/* Frees what starts needed that are over: looks at some of them, at others the next time. */
void starts_sweep(void);

/* Returns when to sweep even if nothing happens, in nanoseconds of CLOCK_MONOTONIC; UINT64_MAX for never. */
uint64_t starts_due(void);

#endif

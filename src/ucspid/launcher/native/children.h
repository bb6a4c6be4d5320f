/*
 * Children that have ended. SIGCHLD says which one it is of, but not whether others have ended since the one before;
 * the kernel finds those by looking at all children. So that is done now and then, the more rarely the more live.
 */
#ifndef UCSPID_CHILDREN_H
#define UCSPID_CHILDREN_H

#include <stdint.h>

/* Reaps the child that a signal is of, which a descriptor of signalfd(2) has. */
void children_hear(int signals);

/* Reaps all others that have ended, if that is due. */
void children_sweep(void);

/* Returns when it is, in nanoseconds of CLOCK_MONOTONIC; UINT64_MAX if none has ended since. */
uint64_t children_due(void);

#endif

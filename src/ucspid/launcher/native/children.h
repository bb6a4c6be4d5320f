/*
 * Children that have ended. SIGCHLD says which one it is of, but not whether others have ended since the one before.
 * So children are looked at now and then, the more rarely the more live: the latest first.
 */
#ifndef UCSPID_CHILDREN_H
#define UCSPID_CHILDREN_H

#include <stdint.h>
#include <sys/types.h>

/* Takes note of a child that was started. */
void children_started(pid_t process);

/* Reaps the child that a signal is of, which a descriptor of signalfd(2) has. */
void children_hear(int signals);

/* Looks at others, if that is due, and reaps those that have ended. */
void children_sweep(void);

/* Returns when it is, in nanoseconds of CLOCK_MONOTONIC; UINT64_MAX if none has ended since. */
uint64_t children_due(void);

#endif

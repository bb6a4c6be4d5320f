/*
 * What the loop is sent, in order, many reports to a packet. STARTED waits a little for other reports: a
 * program that ends meanwhile costs the loop one packet.
 */
#ifndef UCSPID_REPORTS_H
#define UCSPID_REPORTS_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "channel.h"
#include "sessions.h"
#include "wire.h"

/* Nothing more is taken from the loop while so many wait for it to read: it can ask for any number. */
enum { MAX_WAITING_REPORTS = 4096 };

/* Adds a report that is all zero but for its kind and status, to be filled in before anything else is done. */
struct wire_report *report(uint8_t kind, int32_t status);

/* Adds a report of the session in a slot. Returns its number, by which report_failed() finds it. */
uint64_t report_slot(uint8_t kind, int32_t status, uint32_t slot);

/* Adds EXITED for a session. */
void report_ended(uint32_t slot, const struct ending *);

/*
 * Adds FAILED for a session, or makes that of its STARTED, if that was not sent yet and the session was not listed
 * since: it would be said to run after it has failed.
 */
void report_failed(int32_t error, uint32_t slot, uint64_t started);

/* Has a slot cleared when the last report so far was sent: no death of the launcher hides the end of a session. */
void release_when_sent(uint32_t slot);

/* Returns how many reports wait. */
size_t reports_waiting(void);

/* Returns when reports are to be sent, in nanoseconds of CLOCK_MONOTONIC: 0 at once, UINT64_MAX if there are none. */
uint64_t reports_due(void);

/* Sends what there is, as far as the kernel takes it; returns whether it took all. */
bool reports_send(const struct channel *loop);

/* Returns CLOCK_MONOTONIC in nanoseconds. */
uint64_t now(void);

#endif

/* A launcher at work: receives accepted sockets, starts programs on them, reaps, reports. */
#ifndef UCSPID_SERVE_H
#define UCSPID_SERVE_H

#include "channel.h"
#include "orders.h"

/*
 * Takes over the sessions that a predecessor has noted in the table; orphans are its programs that still run.
 * A session that was being started when it died has no process noted; if one orphan is in no slot, that is it
 * (programs lead a process group, so the master can tell them from their descendants).
 */
void take_over(const struct orphans *);

/* Serves until Drain was received and the last program has ended, or loop and master are gone. */
void serve(struct channel *master, struct channel *loop, int signals);

#endif

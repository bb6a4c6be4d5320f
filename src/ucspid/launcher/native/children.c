#include "children.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "die.h"
#include "reports.h"
#include "sessions.h"
#include "table.h"

/*
 * Nanoseconds between sweeps, for each child that is looked at: ten times what a look costs, and more. With 10,000 of
 * them an end is reported 50 ms late, if its signal was lost in another's and it is none of the latest.
 */
static const uint64_t rest = 5000;

/* Up to so many children the kernel looks at all of them when it is asked for any; of more it is asked one by one. */
enum { FEW = 64 };

/* Children that are looked at in one turn, so that starts need not wait for the end of a sweep. */
enum { SLICE = 256 };

static uint64_t due = UINT64_MAX, swept;

/* The latest that were started. Most ends are theirs, so these are looked at first and more often. */
static pid_t latest[FEW];
static unsigned next_latest;
static uint64_t latest_due = UINT64_MAX, latest_swept;

/* Where a sweep of all has come to, from the last slot down; 0 if none is under way. */
static uint32_t cursor;
static bool heard_meanwhile;

/* Reaps a child, or any (-1), if it has ended; says whether it had. */
static bool
reap(pid_t which)
{
	struct rusage used;
	int status;
	pid_t process = wait4(which, &status, WNOHANG, &used);

	if (process <= 0)
		return false;
	child_ended(process, status, &used);
	return true;
}

void
children_started(pid_t process)
{
	latest[next_latest++ % FEW] = process;
}

void
children_hear(int signals)
{
	struct signalfd_siginfo information;

	if (read(signals, &information, sizeof information) < 0) {
		if (errno != EAGAIN && errno != EINTR)
			die_errno("signalfd");
		return;
	}
	/* Anybody of the same user may send one: then it is no child that has ended, or none of ours. */
	if ((pid_t)information.ssi_pid > 0)
		(void)reap((pid_t)information.ssi_pid);
	heard_meanwhile = true;
	if (due == UINT64_MAX)
		due = swept + rest * running;
	if (latest_due == UINT64_MAX && running > FEW)
		latest_due = latest_swept + rest * FEW;
}

static void
sweep_latest(void)
{
	latest_due = UINT64_MAX;
	for (unsigned at = 0; at < FEW; at++)
		if (latest[at] > 0 && reap(latest[at]))
			latest[at] = 0;
	latest_swept = now();
}

/* Looks at a slice of the children; what is no session's (CLONE_PARENT) is found at the end, a few at a time. */
static void
sweep_slice(void)
{
	if (cursor == 0) {
		cursor = table_used;
		heard_meanwhile = false;
	}
	for (int count = 0; count < SLICE && cursor > 0; count++)
		if (is_child(--cursor))
			(void)reap((pid_t)table[cursor].process);
	if (cursor > 0)
		return;
	for (int count = 0; count < FEW && reap(-1); count++)
		continue;
	swept = now();
	due = heard_meanwhile ? swept + rest * running : UINT64_MAX;
}

void
children_sweep(void)
{
	uint64_t time = latest_due == UINT64_MAX && due == UINT64_MAX ? 0 : now();

	if (latest_due <= time)
		sweep_latest();
	if (due > time)
		return;
	if (running > FEW || cursor > 0) {
		sweep_slice();
		return;
	}
	due = UINT64_MAX;
	while (reap(-1))
		continue;
	swept = now();
}

uint64_t
children_due(void)
{
	return latest_due < due ? latest_due : due;
}

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
 * Nanoseconds between sweeps, for each child that lives: a hundred times what the kernel takes to look at it. With 10,000
 * of them an end is reported 50 ms late, if its signal was lost in another's.
 */
static const uint64_t rest = 5000;

static uint64_t due = UINT64_MAX, swept;

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
	if (due == UINT64_MAX)
		due = swept + rest * running;
}

void
children_sweep(void)
{
	if (due == UINT64_MAX || due > now())
		return;
	due = UINT64_MAX;
	while (reap(-1))
		continue;
	swept = now();
}

uint64_t
children_due(void)
{
	return due;
}

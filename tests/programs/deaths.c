/*
 * For LD_PRELOAD: kills the process at a call of libc's, as SIGKILL would at any moment. DIES_AT is NAME:COUNT:before
 * or NAME:COUNT:after, and means the call of that number, from 0. With DIES_AFTER=NAME, calls count from the first one
 * of that name on: an interpreter closes many files before it runs anything.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

static void
pass_by(const char *name, const char *when)
{
	static char point[16], moment[8];
	static int left = -1, begun = 0;

	if (left < 0) {
		const char *wanted = getenv("DIES_AT");

		if (wanted == NULL || sscanf(wanted, "%15[^:]:%d:%7s", point, &left, moment) != 3)
			left = 1 << 30;
	}
	if (!begun) {
		const char *after = getenv("DIES_AFTER");

		begun = after == NULL || strcmp(after, name) == 0;
	}
	if (begun && strcmp(point, name) == 0 && strcmp(moment, when) == 0 && left-- == 0)
		kill(getpid(), SIGKILL);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define PASS(type, name, ...) \
	do { \
		type result; \
		pass_by(#name, "before"); \
		result = REAL(name)(__VA_ARGS__); \
		pass_by(#name, "after"); \
		return result; \
	} while (0)

ssize_t
recvmsg(int descriptor, struct msghdr *message, int flags)
{
	PASS(ssize_t, recvmsg, descriptor, message, flags);
}

ssize_t
send(int descriptor, const void *packet, size_t size, int flags)
{
	PASS(ssize_t, send, descriptor, packet, size, flags);
}

pid_t
wait4(pid_t process, int *status, int options, struct rusage *used)
{
	PASS(pid_t, wait4, process, status, options, used);
}

int
close(int descriptor)
{
	PASS(int, close, descriptor);
}

pid_t
fork(void)
{
	PASS(pid_t, fork);
}

int
clone(int (*function)(void *), void *stack, int flags, void *argument, ...)
{
	va_list more;
	pid_t *parent, *child;
	void *thread;

	va_start(more, argument);
	parent = va_arg(more, pid_t *);
	thread = va_arg(more, void *);
	child = va_arg(more, pid_t *);
	va_end(more);
	PASS(int, clone, function, stack, flags, argument, parent, thread, child);
}

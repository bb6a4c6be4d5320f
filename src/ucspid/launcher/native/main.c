/*
 * A launcher process. Descriptor 3 is the channel of the master, 4 the launcher's end of the loop's, 5 the table.
 * The master sends the programs and a predecessor's orphans first, and then which privileges to take, so that no
 * start comes before its program; Ready or PrivilegesRefused answers. One thread, no signal handlers, nothing read
 * from the network. The loop can name a service and a connection's variables, never a program.
 */

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "channel.h"
#include "die.h"
#include "orders.h"
#include "serve.h"
#include "title.h"
#include "wire.h"

enum { MASTER = 3, LOOP = 4, TABLE = 5 };

_Static_assert((int)MASTER == (int)WIRE_CONTROL && (int)LOOP == (int)WIRE_PLAIN,
    "what programs may have as these two is never received with their numbers: the channels are open to the end");

enum { KERNEL_SIGNALS = 64, KERNEL_SIGSET = 8, KERNEL_SIGACTION = 64 };

/* Closes what the daemon itself was started with: it is nobody's here. */
static void
close_others(void)
{
	DIR *directory = opendir("/proc/self/fd");
	const struct dirent *entry;

	if (directory == NULL)
		die_errno("/proc/self/fd");
	while ((entry = readdir(directory)) != NULL) {
		int descriptor = atoi(entry->d_name);

		if (descriptor > TABLE && descriptor != dirfd(directory))
			(void)close(descriptor);
	}
	(void)closedir(directory);
}

/*
 * Sees to it that no descriptor that is received can be one of those that programs get, 0 to 4: 0, 1 and 2 are open,
 * as the channels are; and that programs inherit none but 0, 1 and 2.
 */
static void
order_descriptors(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	while (null >= 0 && null <= STDERR_FILENO) {
		(void)fcntl(null, F_SETFD, 0);
		null = open("/dev/null", O_RDWR | O_CLOEXEC);
	}
	if (null < 0)
		die_errno("/dev/null");
	(void)close(null);
	close_others();
	for (int descriptor = MASTER; descriptor <= TABLE; descriptor++)
		if (fcntl(descriptor, F_SETFD, FD_CLOEXEC) < 0)
			die_errno("the descriptors of a launcher");
}

/*
 * Gives every signal its default, those of libc's too, which it has no function for: programs inherit what is ignored.
 * Returns a descriptor that says when children have ended. What is blocked already stays so. The limit of CPU time that a launcher lives under is
 * programs' business: its SIGXCPU is blocked.
 */
static int
order_signals(void)
{
	static const unsigned char by_default[KERNEL_SIGACTION];
	sigset_t blocked, children;
	int descriptor;

	for (int number = 1; number <= KERNEL_SIGNALS; number++)
		if (number != SIGKILL && number != SIGSTOP)
			(void)syscall(SYS_rt_sigaction, number, by_default, NULL, KERNEL_SIGSET);
	(void)sigemptyset(&children);
	(void)sigaddset(&children, SIGCHLD);
	blocked = children;
	(void)sigaddset(&blocked, SIGXCPU);
	(void)sigprocmask(SIG_BLOCK, &blocked, NULL);
	descriptor = signalfd(-1, &children, SFD_NONBLOCK | SFD_CLOEXEC);
	if (descriptor < 0)
		die_errno("signalfd");
	return descriptor;
}

int
main(int argc, char **argv)
{
	struct channel master, loop;
	static struct orphans orphans;
	struct wire_ready ready;
	int signals;

	if (argc > 1 && strcmp(argv[1], "--protocol") == 0)
		return printf("%d\n", WIRE_VERSION) < 0;
	(void)setsid();
	order_descriptors();
	signals = order_signals();
	title_room(argc, argv);
	channel_open(&master, MASTER);
	channel_open(&loop, LOOP);
	if (!orders_take(&master, TABLE, &orphans))
		return 0;
	take_over(&orphans);
	free(orphans.processes);
	orphans = (struct orphans){ 0 };
	memset(&ready, 0, sizeof ready);
	ready.kind = WIRE_READY;
	ready.version = WIRE_VERSION;
	channel_send(&master, &ready, WIRE_READY_SIZE);
	serve(&master, &loop, signals);
	return 0;
}

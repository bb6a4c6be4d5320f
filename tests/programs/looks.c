/* For LD_PRELOAD: counts the calls of wait4(2), one look at a child each, in the file that LOOKS names. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t *looks;

__attribute__((constructor)) static void
begin(void)
{
	const char *path = getenv("LOOKS");
	int file = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);

	if (file < 0)
		return;
	looks = mmap(NULL, sizeof *looks, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (looks == MAP_FAILED)
		abort();
	close(file);
}

pid_t
wait4(pid_t process, int *status, int options, struct rusage *used)
{
	if (looks != NULL)
		++*looks;
	return (pid_t)syscall(SYS_wait4, process, status, options, used);
}

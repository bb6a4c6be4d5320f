/*
 * The programs that the servers run: next to nothing, so that what is measured is the server.
 *
 * It writes one line and exits; compiled with -DHOLD it then waits until the client sends no more.
 * With -DTALK it waits for what the client says, and answers, as SMTP does. With -DBARE it has no C library and
 * starts with one page of code: x86-64 and AArch64 Linux.
 */

#ifdef TALK
static const char line[] = "250 ok\r\n";
#else
static const char line[] = "ok\n";
#endif

#ifdef BARE

#if defined(__x86_64__)
enum { READ = 0, WRITE = 1, EXIT = 231 };

static long call(long number, long a, long b, long c)
{
	long result;
	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
	return result;
}
#elif defined(__aarch64__)
enum { READ = 63, WRITE = 64, EXIT = 94 };

static long call(long number, long a, long b, long c)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
	return x0;
}
#else
#error "no bare program for this machine: compile without -DBARE"
#endif

static long read_some(char *buffer, long size) { return call(READ, 0, (long)buffer, size); }
static long say(void) { return call(WRITE, 1, (long)line, sizeof line - 1); }

#else

#include <unistd.h>

static long read_some(char *buffer, long size) { return read(0, buffer, size); }
static long say(void) { return write(1, line, sizeof line - 1); }

#endif

static int run(void)
{
	if (say() < 0)
		return 1;
#ifdef HOLD
	char buffer[512];
	while (read_some(buffer, sizeof buffer) > 0)
		;
#elif defined(TALK)
	char buffer[512];
	if (read_some(buffer, sizeof buffer) > 0 && say() < 0)
		return 1;
#else
	(void)read_some;
#endif
	return 0;
}

#ifdef BARE
void _start(void)
{
	call(EXIT, run(), 0, 0);
	__builtin_unreachable();
}
#else
int main(void) { return run(); }
#endif

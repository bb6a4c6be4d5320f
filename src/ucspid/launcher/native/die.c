#include "die.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_LINE = 500 };

void
die(const char *format, ...)
{
	char line[MAX_LINE];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(line, sizeof line, format, arguments);
	va_end(arguments);
	(void)dprintf(STDERR_FILENO, "ucspid: launcher: %s\n", line);
	exit(EXIT_SYSTEM);
}

void
die_errno(const char *what)
{
	die("%s: %s", what, strerror(errno));
}

void *
allocate(size_t count, size_t size)
{
	void *memory = calloc(count ? count : 1, size ? size : 1);

	if (memory == NULL)
		die_errno("memory");
	return memory;
}

void *
reallocate(void *memory, size_t count, size_t size)
{
	void *other = reallocarray(memory, count ? count : 1, size ? size : 1);

	if (other == NULL)
		die_errno("memory");
	return other;
}

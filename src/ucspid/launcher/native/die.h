/* Exits of the launcher after an error, and memory that is there. */
#ifndef UCSPID_DIE_H
#define UCSPID_DIE_H

#include <stddef.h>

enum { EXIT_SYSTEM = 111 };

/* Says why on standard error, in one line, and exits with 111. Programs go on: a successor takes them over. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same for a system call that failed: says what errno means. */
_Noreturn void die_errno(const char *what);

/* Memory for count things of a size, all zero; dies if there is none. */
void *allocate(size_t count, size_t size) __attribute__((malloc, returns_nonnull));

/* The same memory or other, larger or smaller; what is new is not set. */
void *reallocate(void *memory, size_t count, size_t size) __attribute__((returns_nonnull));

#endif

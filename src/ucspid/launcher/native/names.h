/* Sets of names of variables that connections may set. Most services have the same, and share one. */
#ifndef UCSPID_NAMES_H
#define UCSPID_NAMES_H

#include <stddef.h>
#include <stdint.h>

#include "reader.h"

struct names {
	size_t references;
	size_t count;
	struct text items[];     /* sorted, no two the same; their bytes follow */
};

/* Returns a set that has the names of both, of which old may be NULL. */
struct names *names_with(const struct names *old, struct list more);

/* Returns a set without the names listed. */
struct names *names_without(const struct names *old, struct list fewer);

/* Gives a reference back. */
void names_release(struct names *);

/* Returns the place of a name in a set, or -1. */
ptrdiff_t names_find(const struct names *, struct text name);

#endif

#include "names.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "die.h"

enum { MAX_SHARED = 16 };

/* Sets that are in use, of late; the next one takes the oldest one's place. */
static struct names *shared[MAX_SHARED];
static size_t next_shared;

static int
compare(const void *one, const void *other)
{
	return text_compare(*(const struct text *)one, *(const struct text *)other);
}

static bool
same(const struct names *one, const struct text *items, size_t count)
{
	if (one == NULL || one->count != count)
		return false;
	for (size_t i = 0; i < count; i++)
		if (text_compare(one->items[i], items[i]) != 0)
			return false;
	return true;
}

/* Returns a set of these, which are sorted: one that is there already, or a new one. */
static struct names *
share(const struct text *items, size_t count)
{
	struct names *names;
	size_t size = 0;
	char *at;

	for (size_t i = 0; i < MAX_SHARED; i++) {
		if (same(shared[i], items, count)) {
			shared[i]->references++;
			return shared[i];
		}
	}
	for (size_t i = 0; i < count; i++)
		size += items[i].size;
	names = allocate(1, sizeof *names + count * sizeof names->items[0] + size);
	names->references = 1;
	names->count = count;
	at = (char *)&names->items[count];
	for (size_t i = 0; i < count; i++) {
		names->items[i] = (struct text){ at, items[i].size };
		memcpy(at, items[i].bytes, items[i].size);
		at += items[i].size;
	}
	shared[next_shared] = names;
	next_shared = (next_shared + 1) % MAX_SHARED;
	return names;
}

struct names *
names_with(const struct names *old, struct list more)
{
	size_t before = old == NULL ? 0 : old->count, count = 0;
	struct text *items = allocate(before + more.count, sizeof *items);
	struct names *names;

	for (size_t i = 0; i < before; i++)
		items[count++] = old->items[i];
	while (more.count > 0)
		items[count++] = text_next(&more);
	qsort(items, count, sizeof *items, compare);
	before = count;
	count = 0;
	for (size_t i = 0; i < before; i++)
		if (count == 0 || compare(&items[count - 1], &items[i]) != 0)
			items[count++] = items[i];
	names = share(items, count);
	free(items);
	return names;
}

struct names *
names_without(const struct names *old, struct list fewer)
{
	struct text *items = allocate(old->count, sizeof *items);
	struct text *gone = allocate(fewer.count, sizeof *gone);
	struct names *names;
	size_t count = 0, others = 0;

	while (fewer.count > 0)
		gone[others++] = text_next(&fewer);
	qsort(gone, others, sizeof *gone, compare);
	for (size_t i = 0; i < old->count; i++)
		if (bsearch(&old->items[i], gone, others, sizeof *gone, compare) == NULL)
			items[count++] = old->items[i];
	names = share(items, count);
	free(gone);
	free(items);
	return names;
}

void
names_release(struct names *names)
{
	if (--names->references > 0)
		return;
	for (size_t i = 0; i < MAX_SHARED; i++)
		if (shared[i] == names)
			shared[i] = NULL;
	free(names);
}

ptrdiff_t
names_find(const struct names *names, struct text name)
{
	const struct text *found = bsearch(&name, names->items, names->count, sizeof name, compare);

	return found == NULL ? -1 : found - names->items;
}

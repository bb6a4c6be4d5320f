#include "table.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUCKETS = 8192 };

enum state { IDLE, CHILD, ORPHAN };

struct wire_session_slot *table;
uint32_t table_used;
uint32_t running;

/* All of this costs memory only as far as it is used. Links are slots plus one, so that 0 is none. */
static uint32_t free_slots[WIRE_CAPACITY];
static uint32_t free_count;
static uint32_t buckets[BUCKETS];
static uint32_t links[WIRE_CAPACITY];
static uint8_t states[WIRE_CAPACITY];

/* Returns how many slots lie in memory that was ever written: what follows is a hole in the file. */
static uint32_t
extent(int descriptor)
{
	off_t end = lseek(descriptor, 0, SEEK_HOLE);

	if (end < 0)
		return WIRE_CAPACITY;
	end /= (off_t)sizeof *table;
	return end < WIRE_CAPACITY ? (uint32_t)end : WIRE_CAPACITY;
}

bool
table_open(int descriptor)
{
	const size_t size = sizeof *table * WIRE_CAPACITY;
	struct stat status;
	void *memory;
	uint32_t written;

	if (fstat(descriptor, &status) < 0)
		return false;
	if (status.st_size < (off_t)size) {
		errno = EINVAL;
		return false;
	}
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
	if (memory == MAP_FAILED)
		return false;
	table = memory;
	written = extent(descriptor);
	for (uint32_t slot = 0; slot < written; slot++)
		if (table[slot].connection != 0)
			table_used = slot + 1;
	for (uint32_t slot = table_used; slot-- > 0;)
		if (table[slot].connection == 0)
			free_slots[free_count++] = slot;
	return true;
}

uint32_t
table_claim(uint64_t connection, uint32_t service, const uint8_t tag[WIRE_TAG_SIZE])
{
	uint32_t slot;

	if (free_count > 0)
		slot = free_slots[--free_count];
	else if (table_used < WIRE_CAPACITY)
		slot = table_used++;
	else
		return NO_SLOT;
	table[slot].process = 0;
	table[slot].service = service;
	memcpy(table[slot].tag, tag, WIRE_TAG_SIZE);
	/* Last: without a connection the slot is free, whoever looks, and whenever this process ends. */
	__atomic_store_n(&table[slot].connection, connection, __ATOMIC_RELEASE);
	return slot;
}

void
table_release(uint32_t slot)
{
	memset(&table[slot], 0, sizeof table[slot]);
	free_slots[free_count++] = slot;
}

void
running_add(uint32_t slot, bool orphan)
{
	uint32_t *bucket = &buckets[table[slot].process % BUCKETS];

	links[slot] = *bucket;
	*bucket = slot + 1;
	states[slot] = orphan ? ORPHAN : CHILD;
	running++;
}

uint32_t
running_find(uint32_t process, bool orphan)
{
	const enum state state = orphan ? ORPHAN : CHILD;
	uint32_t link = buckets[process % BUCKETS];

	while (link != 0 && (table[link - 1].process != process || states[link - 1] != state))
		link = links[link - 1];
	return link - 1;
}

void
running_remove(uint32_t slot)
{
	uint32_t *link = &buckets[table[slot].process % BUCKETS];

	while (*link != slot + 1)
		link = &links[*link - 1];
	*link = links[slot];
	links[slot] = 0;
	states[slot] = IDLE;
	running--;
}

bool
is_running(uint32_t slot)
{
	return states[slot] != IDLE;
}

bool
is_child(uint32_t slot)
{
	return states[slot] == CHILD;
}

bool
is_orphan(uint32_t slot)
{
	return states[slot] == ORPHAN;
}

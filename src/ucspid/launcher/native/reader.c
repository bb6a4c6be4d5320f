#include "reader.h"

#include <string.h>

static const uint32_t absent = UINT32_MAX;

struct reader
reader_of(const void *packet, size_t size)
{
	return (struct reader){ packet, size, false };
}

/* Returns where the next bytes are, or NULL. */
static const unsigned char *
take(struct reader *reader, size_t size)
{
	const unsigned char *at = reader->at;

	if (reader->bad || size > reader->left) {
		reader->bad = true;
		return NULL;
	}
	reader->at += size;
	reader->left -= size;
	return at;
}

void
read_bytes(struct reader *reader, void *to, size_t size)
{
	const unsigned char *at = take(reader, size);

	if (at == NULL)
		memset(to, 0, size);
	else
		memcpy(to, at, size);
}

uint32_t
read_u32(struct reader *reader)
{
	uint32_t number;

	read_bytes(reader, &number, sizeof number);
	return number;
}

struct text
read_text(struct reader *reader, bool *present)
{
	uint32_t size = read_u32(reader);
	const unsigned char *at;

	if (present != NULL) {
		*present = size != absent;
		if (size == absent)
			size = 0;
	}
	at = take(reader, size);
	return at == NULL ? (struct text){ "", 0 } : (struct text){ (const char *)at, size };
}

struct list
read_list(struct reader *reader)
{
	uint32_t count = read_u32(reader);
	struct list list = { reader->at, count };

	for (uint32_t i = 0; i < count && !reader->bad; i++)
		(void)read_text(reader, NULL);
	if (reader->bad)
		list.count = 0;
	return list;
}

struct list
read_numbers(struct reader *reader, bool *present)
{
	uint32_t count = read_u32(reader);
	struct list list;

	if (present != NULL) {
		*present = count != absent;
		if (count == absent)
			count = 0;
	}
	list = (struct list){ reader->at, count };
	if (take(reader, (size_t)count * sizeof(uint32_t)) == NULL)
		list.count = 0;
	return list;
}

bool
reader_done(const struct reader *reader)
{
	return !reader->bad && reader->left == 0;
}

uint32_t
number_next(struct list *list)
{
	uint32_t number;

	memcpy(&number, list->at, sizeof number);
	list->at += sizeof number;
	list->count--;
	return number;
}

struct text
text_next(struct list *list)
{
	uint32_t size = number_next(list);
	struct text text = { (const char *)list->at, size };

	list->at += size;
	return text;
}

int
text_compare(struct text one, struct text other)
{
	size_t both = one.size < other.size ? one.size : other.size;
	int order = both == 0 ? 0 : memcmp(one.bytes, other.bytes, both);

	if (order != 0)
		return order;
	return (one.size > other.size) - (one.size < other.size);
}

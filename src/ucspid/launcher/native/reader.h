/* Reading a packet piece by piece. All is counted; nothing ends with a NUL. */
#ifndef UCSPID_READER_H
#define UCSPID_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes somewhere else. */
struct text {
	const char *bytes;
	size_t size;
};

/* Strings that lie in a packet one after another, each after its size; to be read with text_next(). */
struct list {
	const unsigned char *at;
	uint32_t count;
};

/* What has not been read yet; bad once more was asked for than there was. */
struct reader {
	const unsigned char *at;
	size_t left;
	bool bad;
};

struct reader reader_of(const void *packet, size_t size);

/* Copies the packet's next bytes; zeros if there are not so many. */
void read_bytes(struct reader *, void *to, size_t size);

/* Returns what follows after its number of bytes; absent (2**32 - 1) makes *present false, and is bad without. */
struct text read_text(struct reader *, bool *present);

/* Returns the strings that follow after their number. */
struct list read_list(struct reader *);

/* Returns a list of 4-byte numbers that follow after their number: to be read with number_next(). */
struct list read_numbers(struct reader *, bool *present);

/* Returns a number of 4 bytes. */
uint32_t read_u32(struct reader *);

/* Says whether all was read and nothing more was asked for. */
bool reader_done(const struct reader *);

/* Takes the first string, or number, of a list that is not empty. */
struct text text_next(struct list *);
uint32_t number_next(struct list *);

/* Orders by bytes, then by size: below, above or equal to zero. */
int text_compare(struct text, struct text);

#endif

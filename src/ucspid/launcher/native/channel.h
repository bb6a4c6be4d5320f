/* One end of a SEQPACKET pair. What the kernel does not take at once waits in order. */
#ifndef UCSPID_CHANNEL_H
#define UCSPID_CHANNEL_H

#include <stddef.h>
#include <sys/types.h>

struct waiting;

enum { MAX_PASSED = 3 };

/* Descriptors that came with a packet: the receiver's to close. */
struct passed {
	size_t count;
	int descriptors[MAX_PASSED];
};

struct channel {
	int descriptor;
	size_t waiting;          /* packets */
	struct waiting *first;
	struct waiting **last;
};

void channel_open(struct channel *, int descriptor);

enum tried { SENT, NOT_NOW, TOO_LONG };

/* Sends a packet if the kernel takes it. One that nobody will ever read counts as sent. */
enum tried channel_try(const struct channel *, const void *packet, size_t size);

/* Sends a packet, or keeps it until channel_flush(). */
void channel_send(struct channel *, const void *packet, size_t size);

void channel_flush(struct channel *);

/*
 * Receives a packet of room bytes at most. Returns its size; 0 if the peer is gone; -1 if there is none now,
 * which happens only with MSG_DONTWAIT in flags. *passed are the descriptors that came with it, close-on-exec.
 * Dies of a packet that is too long or has more of them than MAX_PASSED.
 */
ssize_t channel_receive(const struct channel *, void *packet, size_t room, int flags, struct passed *);

#endif

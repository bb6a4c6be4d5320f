#include "channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "die.h"

struct waiting {
	struct waiting *next;
	size_t size;
	unsigned char packet[];
};

void
channel_open(struct channel *channel, int descriptor)
{
	*channel = (struct channel){ .descriptor = descriptor };
	channel->last = &channel->first;
}

enum tried
channel_try(const struct channel *channel, const void *packet, size_t size)
{
	while (send(channel->descriptor, packet, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		switch (errno) {
		case EINTR:
			continue;
		case EAGAIN:
			return NOT_NOW;
		case EMSGSIZE:
			return TOO_LONG;
		case EPIPE:
		case ECONNRESET:
			return SENT;
		default:
			die_errno("send");
		}
	}
	return SENT;
}

void
channel_send(struct channel *channel, const void *packet, size_t size)
{
	struct waiting *item;

	if (channel->first == NULL && channel_try(channel, packet, size) == SENT)
		return;
	item = allocate(1, sizeof *item + size);
	item->size = size;
	memcpy(item->packet, packet, size);
	*channel->last = item;
	channel->last = &item->next;
	channel->waiting++;
}

void
channel_flush(struct channel *channel)
{
	struct waiting *item;

	while ((item = channel->first) != NULL && channel_try(channel, item->packet, item->size) == SENT) {
		channel->first = item->next;
		if (channel->first == NULL)
			channel->last = &channel->first;
		channel->waiting--;
		free(item);
	}
}

/* Takes the descriptors out of a control message. There is room for one more than are taken, so that it is noticed. */
static void
take_descriptors(struct passed *passed, struct msghdr *message)
{
	struct cmsghdr *head = CMSG_FIRSTHDR(message);
	size_t size;

	if (head == NULL)
		return;
	if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS || head->cmsg_len < CMSG_LEN(0) ||
	    CMSG_NXTHDR(message, head) != NULL)
		die("what came with a packet is not descriptors");
	size = head->cmsg_len - CMSG_LEN(0);
	if (size > sizeof passed->descriptors || size % sizeof passed->descriptors[0] != 0)
		die("more than %d descriptors with a packet", MAX_PASSED);
	memcpy(passed->descriptors, CMSG_DATA(head), size);
	passed->count = size / sizeof passed->descriptors[0];
}

ssize_t
channel_receive(const struct channel *channel, void *packet, size_t room, int flags, struct passed *passed)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE((MAX_PASSED + 1) * sizeof(int))];
	} control;
	struct iovec part = { packet, room };
	struct msghdr message;
	ssize_t size;

	do {
		message = (struct msghdr){ .msg_iov = &part, .msg_iovlen = 1,
			.msg_control = &control, .msg_controllen = sizeof control };
		size = recvmsg(channel->descriptor, &message, flags | MSG_CMSG_CLOEXEC);
		/* ECONNRESET: a peer went without reading all. It is said once, before what the peer had sent. */
	} while (size < 0 && (errno == EINTR || errno == ECONNRESET));
	passed->count = 0;
	if (size < 0) {
		if (errno != EAGAIN)
			die_errno("recvmsg");
		return -1;
	}
	take_descriptors(passed, &message);
	if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		die("a packet was cut off: too long, or with too many descriptors");
	return size;
}

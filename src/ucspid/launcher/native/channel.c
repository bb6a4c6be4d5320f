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

/* Returns the descriptor in a control message, or -1. There is room for two, so that a second is noticed. */
static int
descriptor_in(struct msghdr *message)
{
	struct cmsghdr *head = CMSG_FIRSTHDR(message);
	int descriptor;

	if (head == NULL)
		return -1;
	if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS ||
	    head->cmsg_len != CMSG_LEN(sizeof descriptor) || CMSG_NXTHDR(message, head) != NULL)
		die("more than one descriptor with a packet");
	memcpy(&descriptor, CMSG_DATA(head), sizeof descriptor);
	return descriptor;
}

ssize_t
channel_receive(const struct channel *channel, void *packet, size_t room, int flags, int *passed)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(2 * sizeof(int))];
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
	*passed = -1;
	if (size < 0) {
		if (errno != EAGAIN)
			die_errno("recvmsg");
		return -1;
	}
	*passed = descriptor_in(&message);
	if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		die("a packet was cut off: too long, or with too many descriptors");
	return size;
}

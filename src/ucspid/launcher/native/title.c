#include "title.h"

#include <string.h>
#include <sys/prctl.h>

enum { NAME_SIZE = 16 };

static char *begin;
static size_t room;

void
title_room(int count, char **arguments)
{
	begin = arguments[0];
	for (int i = 0; i < count && arguments[i] == begin + room; i++)
		room += strlen(arguments[i]) + 1;
}

void
title_set(struct text title)
{
	char name[NAME_SIZE] = { 0 };
	size_t size = title.size < NAME_SIZE ? title.size : NAME_SIZE - 1;

	memcpy(name, title.bytes, size);
	(void)prctl(PR_SET_NAME, name, 0, 0, 0);
	if (room == 0)
		return;
	size = title.size < room ? title.size : room - 1;
	memset(begin, 0, room);
	memcpy(begin, title.bytes, size);
}

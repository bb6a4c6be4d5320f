/* The title that ps(1) shows. */
#ifndef UCSPID_TITLE_H
#define UCSPID_TITLE_H

#include "reader.h"

/* Says where the arguments of main() are: the kernel shows that memory. */
void title_room(int count, char **arguments);

/* Shows a title as command name, cut to 15 bytes, and over the arguments, cut to their length. */
void title_set(struct text);

#endif

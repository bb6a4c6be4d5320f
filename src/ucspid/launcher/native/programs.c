#include "programs.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "die.h"
#include "wire.h"

_Static_assert((int)WIRE_SET_PROGRAM_EXECUTABLE_TEXT == 0 && (int)WIRE_SET_PROGRAM_ARGUMENTS_STRINGS == 1 &&
    (int)WIRE_SET_PROGRAM_ENVIRONMENT_STRINGS == 2 && (int)WIRE_SET_PROGRAM_NAMES_STRINGS == 3 &&
    (int)WIRE_SET_PROGRAM_TAILS == 4, "the order in which programs_set() reads");
_Static_assert((int)WIRE_ALLOW_NAMES_SIZE == (int)WIRE_FORBID_NAMES_SIZE && (int)WIRE_ALLOW_NAMES_NAMES_STRINGS == 0 &&
    (int)WIRE_FORBID_NAMES_NAMES_STRINGS == 0 && (int)WIRE_ALLOW_NAMES_TAILS == 1 &&
    (int)WIRE_FORBID_NAMES_TAILS == 1, "the two messages that read_names() reads have one layout");

/* Sorted by service. */
static struct program **programs;
static size_t count;
static size_t room;

/* Returns the place of a service's program, or where it would be. */
static size_t
place_of(uint32_t service)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (programs[middle]->service < service)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct program *
programs_find(uint32_t service)
{
	size_t place = place_of(service);

	return place < count && programs[place]->service == service ? programs[place] : NULL;
}

void
program_release(struct program *program)
{
	if (--program->references > 0)
		return;
	if (program->error >= 0)
		(void)close(program->error);
	names_release(program->allowed);
	free(program);
}

/* Copies a string to *at, with a NUL behind it, and moves *at. Dies of one that has a NUL in it. */
static char *
copy(char **at, struct text text)
{
	char *to = *at;

	if (memchr(text.bytes, '\0', text.size) != NULL)
		die("a program with a NUL byte in a string");
	memcpy(to, text.bytes, text.size);
	to[text.size] = '\0';
	*at += text.size + 1;
	return to;
}

static void
copy_all(char **at, char **to, struct list list)
{
	while (list.count > 0)
		*to++ = copy(at, text_next(&list));
	*to = NULL;
}

/* Returns the bytes that copies of a list's strings take. */
static size_t
size_of(struct list list)
{
	size_t size = 0;

	while (list.count > 0)
		size += text_next(&list).size + 1;
	return size;
}

static struct program *
program_of(const struct wire_set_program *head, struct text executable, struct list arguments,
    struct list environment, struct list names, int passed)
{
	size_t pointers = (size_t)arguments.count + 1 + environment.count + 1;
	size_t bytes = executable.size + 1 + size_of(arguments) + size_of(environment);
	struct program *old = programs_find(head->service);
	struct program *new = allocate(1, sizeof *new + pointers * sizeof(char *) + bytes);
	char *at;

	new->service = head->service;
	new->references = 1;
	new->error = passed;
	new->client_error = head->stderr_ == WIRE_STDERR_CLIENT;
	new->arguments = (char **)(new + 1);
	new->environment = new->arguments + arguments.count + 1;
	new->environment_count = environment.count;
	at = (char *)(new->arguments + pointers);
	new->executable = copy(&at, executable);
	copy_all(&at, new->arguments, arguments);
	copy_all(&at, new->environment, environment);
	new->allowed = names_with(old == NULL ? NULL : old->allowed, names);
	return new;
}

void
programs_set(const void *packet, size_t size, int passed)
{
	struct reader reader = reader_of(packet, size);
	struct wire_set_program head;
	struct text executable;
	struct list arguments, environment, names;
	struct program *program;
	size_t place;

	read_bytes(&reader, &head, WIRE_SET_PROGRAM_SIZE);
	executable = read_text(&reader, NULL);
	arguments = read_list(&reader);
	environment = read_list(&reader);
	names = read_list(&reader);
	if (!reader_done(&reader) || (passed >= 0) != (head.stderr_ == WIRE_STDERR_GIVEN))
		die("a program that makes no sense");
	program = program_of(&head, executable, arguments, environment, names, passed);
	place = place_of(head.service);
	if (place < count && programs[place]->service == head.service) {
		program_release(programs[place]);
	} else {
		if (count == room) {
			room = room == 0 ? 16 : 2 * room;
			programs = reallocate(programs, room, sizeof *programs);
		}
		memmove(&programs[place + 1], &programs[place], (count - place) * sizeof *programs);
		count++;
	}
	programs[place] = program;
}

/* Returns the program of the service that a message about names is of; *names are those. */
static struct program *
read_names(const void *packet, size_t size, struct list *names)
{
	struct reader reader = reader_of(packet, size);
	struct wire_allow_names head;
	struct program *program;

	read_bytes(&reader, &head, WIRE_ALLOW_NAMES_SIZE);
	*names = read_list(&reader);
	if (!reader_done(&reader))
		die("names that make no sense");
	program = programs_find(head.service);
	if (program == NULL)
		die("service %u has no program here", head.service);
	return program;
}

void
programs_allow(const void *packet, size_t size)
{
	struct list names;
	struct program *program = read_names(packet, size, &names);
	struct names *before = program->allowed;

	program->allowed = names_with(before, names);
	names_release(before);
}

void
programs_forbid(const void *packet, size_t size)
{
	struct list names;
	struct program *program = read_names(packet, size, &names);
	struct names *before = program->allowed;

	program->allowed = names_without(before, names);
	names_release(before);
}

void
programs_remove(const void *packet, size_t size)
{
	struct reader reader = reader_of(packet, size);
	struct wire_remove_programs head;
	struct list services;

	read_bytes(&reader, &head, WIRE_REMOVE_PROGRAMS_SIZE);
	services = read_numbers(&reader, NULL);
	if (!reader_done(&reader))
		die("services that make no sense");
	while (services.count > 0) {
		uint32_t service = number_next(&services);
		size_t place = place_of(service);

		if (place == count || programs[place]->service != service)
			die("service %u has no program here", service);
		program_release(programs[place]);
		count--;
		memmove(&programs[place], &programs[place + 1], (count - place) * sizeof *programs);
	}
}

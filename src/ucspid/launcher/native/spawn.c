#include "spawn.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arch.h"
#include "die.h"
#include "wire.h"

enum {
	STACK = 2048,            /* the frames of a child take 200 bytes or so */
	KERNEL_SIGSET = 8,
	EXIT_NOT_EXECUTED = 127
};

/* What a child reads. */
struct start {
	pid_t tid;               /* the kernel's to clear */
	int error;               /* the child's to set */
	int client;
	int control, plain;      /* or -1 */
	struct program *program;
	char **environment;
	_Alignas(16) unsigned char stack[STACK];
	char *strings[];         /* the environment's pointers; what the connection has set follows */
};

struct limits_of_programs limits_of_programs;

/*
 * Which item of the environment each allowed name is in, for the start that is being prepared: for as many
 * names as a program ever had.
 */
static size_t *places;
static size_t places_room;

bool
spawn_over(const struct start *start)
{
	return __atomic_load_n(&start->tid, __ATOMIC_ACQUIRE) == 0;
}

int
spawn_error(const struct start *start)
{
	return start->error;
}

void
spawn_free(struct start *start)
{
	program_release(start->program);
	free(start);
}

/* The child. No libc, no stack to speak of, nothing written but error: all this memory is the launcher's. */
static _Noreturn __attribute__((no_sanitize("address", "undefined"))) int
child(void *argument)
{
	static const unsigned char no_signals[KERNEL_SIGSET];
	struct start *start = argument;
	const struct program *program = start->program;
	int error = program->client_error ? start->client : program->error;
	long first_other = STDERR_FILENO + 1;
	long result;

	(void)raw_call(SYS_setpgid, 0, 0, 0, 0);
	result = raw_call(SYS_dup3, start->client, 0, 0, 0);
	if (result >= 0)
		result = raw_call(SYS_dup3, start->client, 1, 0, 0);
	if (result >= 0 && error >= 0)
		result = raw_call(SYS_dup3, error, 2, 0, 0);
	if (result >= 0 && start->control >= 0) {
		result = raw_call(SYS_dup3, start->control, WIRE_CONTROL, 0, 0);
		if (result >= 0)
			result = raw_call(SYS_dup3, start->plain, WIRE_PLAIN, 0, 0);
		first_other = WIRE_PLAIN + 1;
	}
	/* What hangs in execve(2) holds nothing of others. A kernel that has no such call (before 5.9) closes it then. */
	(void)raw_call(SYS_close_range, first_other, UINT_MAX, 0, 0);
	if (result >= 0 && limits_of_programs.has_nofile)
		result = raw_call(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)&limits_of_programs.nofile, 0);
	if (result >= 0 && limits_of_programs.has_cpu)
		result = raw_call(SYS_prlimit64, 0, RLIMIT_CPU, (long)&limits_of_programs.cpu, 0);
	if (result >= 0)
		result = raw_call(SYS_rt_sigprocmask, SIG_SETMASK, (long)no_signals, 0, KERNEL_SIGSET);
	if (result >= 0)
		result = raw_call(SYS_execve, (long)program->executable, (long)program->arguments,
		    (long)start->environment, 0);
	start->error = (int)-result;
	for (;;)
		(void)raw_call(SYS_exit_group, EXIT_NOT_EXECUTED, 0, 0, 0);
}

/* Returns the place of a variable that the program has from its service, or where the next one goes. */
static size_t
place_of(char *const *environment, size_t count, struct text name)
{
	size_t place = 0;

	while (place < count && (strncmp(environment[place], name.bytes, name.size) != 0 ||
	    environment[place][name.size] != '='))
		place++;
	return place;
}

/* Puts what a connection sets beside what its service sets, or in its place. Returns an errno. */
static int
set_variables(char **environment, const struct program *program, char *variables, size_t size)
{
	size_t count = program->environment_count;
	char *end = variables + size;

	memcpy(environment, program->environment, count * sizeof *environment);
	memset(places, 0, program->allowed->count * sizeof *places);
	while (variables < end) {
		size_t length = strlen(variables);
		const char *equals = memchr(variables, '=', length);
		struct text name = { variables, equals == NULL ? length : (size_t)(equals - variables) };
		ptrdiff_t allowed = names_find(program->allowed, name);
		size_t place;

		if (equals == NULL || allowed < 0)
			return EINVAL;
		place = places[allowed] > 0 ? places[allowed] - 1 : place_of(environment, count, name);
		if (place == count)
			count++;
		places[allowed] = place + 1;
		environment[place] = variables;
		variables += length + 1;
	}
	environment[count] = NULL;
	return 0;
}

/* Returns a block with all that a child needs; *error is an errno if a variable is not to be set. */
static struct start *
prepare(struct program *program, const char *variables, size_t size, const struct passed *sockets, int *error)
{
	size_t pointers = program->environment_count + 2;
	struct start *start;
	char *copy;

	for (size_t i = 0; i < size; i++)
		pointers += variables[i] == '\0';
	start = malloc(sizeof *start + pointers * sizeof start->strings[0] + size + 1);
	if (start == NULL) {
		*error = ENOMEM;
		return NULL;
	}
	start->tid = 1;
	start->error = 0;
	start->client = sockets->descriptors[0];
	start->control = sockets->count == WIRE_SOCKETS_WITH_TLS ? sockets->descriptors[1] : -1;
	start->plain = sockets->count == WIRE_SOCKETS_WITH_TLS ? sockets->descriptors[2] : -1;
	start->program = program;
	start->environment = start->strings;
	copy = (char *)&start->strings[pointers];
	memcpy(copy, variables, size);
	copy[size] = '\0';
	/* An empty string at the end is one, too: it has no '='. */
	*error = set_variables(start->strings, program, copy, size == 0 ? 0 : size + 1);
	return start;
}

/* Makes the child; returns an errno. The kernel writes its process before it runs. */
static int
make_child(struct start *start, pid_t *process)
{
#ifdef UCSPID_FORKS
	/* For valgrind: the child has memory of its own, and its errno cannot be read from there. */
	pid_t made = fork();

	if (made == 0)
		child(start);
	if (made < 0)
		return errno;
	*process = made;
	start->tid = 0;
	return 0;
#else
	const int flags = CLONE_VM | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD;

	return clone(child, start->stack + STACK, flags, start, process, NULL, &start->tid) < 0 ? errno : 0;
#endif
}

int
spawn(struct start **started, struct program *program, const char *variables, size_t size, const struct passed *sockets,
    uint32_t *process)
{
	struct start *start;
	int error;

	if (program->allowed->count >= places_room) {
		places_room = program->allowed->count + 1;
		places = reallocate(places, places_room, sizeof *places);
	}
	start = prepare(program, variables, size, sockets, &error);
	if (error == 0)
		error = make_child(start, (pid_t *)process);
	if (error != 0) {
		free(start);
		return error;
	}
	program->references++;
	*started = start;
	return 0;
}

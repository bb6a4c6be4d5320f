#include "privileges.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "die.h"
#include "spawn.h"

_Static_assert((int)WIRE_PROFILE_GROUPS_NUMBERS == 0 && (int)WIRE_PROFILE_CWD_TEXT == 1 &&
    (int)WIRE_PROFILE_ROOT_TEXT == 2 && (int)WIRE_PROFILE_RLIMITS_NAMEDLIMITS == 3 && (int)WIRE_PROFILE_TAILS == 4,
    "the order in which profile_read() reads");

static const struct {
	const char *name;
	unsigned number;
} limit_names[] = {
	{ "as", RLIMIT_AS },
	{ "core", RLIMIT_CORE },
	{ "cpu", RLIMIT_CPU },
	{ "data", RLIMIT_DATA },
	{ "fsize", RLIMIT_FSIZE },
	{ "memlock", RLIMIT_MEMLOCK },
	{ "msgqueue", RLIMIT_MSGQUEUE },
	{ "nice", RLIMIT_NICE },
	{ "nofile", RLIMIT_NOFILE },
	{ "nproc", RLIMIT_NPROC },
	{ "rss", RLIMIT_RSS },
	{ "rtprio", RLIMIT_RTPRIO },
	{ "rttime", RLIMIT_RTTIME },
	{ "sigpending", RLIMIT_SIGPENDING },
	{ "stack", RLIMIT_STACK },
};

/* One limit of a profile. */
struct limit {
	bool known;
	unsigned number;
	rlim_t value;
};

static struct limit
next_limit(struct reader *reader)
{
	struct text name = read_text(reader, NULL);
	struct limit limit = { 0 };
	uint64_t value;

	read_bytes(reader, &value, sizeof value);
	limit.value = value == WIRE_ABSENT_U64 ? RLIM_INFINITY : value;
	for (size_t i = 0; i < sizeof limit_names / sizeof limit_names[0]; i++) {
		if (strlen(limit_names[i].name) == name.size &&
		    memcmp(limit_names[i].name, name.bytes, name.size) == 0) {
			limit.known = true;
			limit.number = limit_names[i].number;
		}
	}
	return limit;
}

/* Returns a C string, or NULL if it is absent; bad if it has a NUL in it. */
static char *
read_path(struct reader *reader)
{
	bool present;
	struct text text = read_text(reader, &present);
	char *path;

	if (!present || reader->bad)
		return NULL;
	if (memchr(text.bytes, '\0', text.size) != NULL)
		reader->bad = true;
	path = allocate(text.size + 1, 1);
	memcpy(path, text.bytes, text.size);
	return path;
}

bool
profile_read(struct profile *profile, struct reader *reader)
{
	memset(profile, 0, sizeof *profile);
	read_bytes(reader, &profile->head, WIRE_PROFILE_SIZE);
	profile->groups = read_numbers(reader, &profile->has_groups);
	profile->cwd = read_path(reader);
	profile->root = read_path(reader);
	profile->limits_count = read_u32(reader);
	profile->limits = *reader;
	for (uint32_t i = 0; i < profile->limits_count && !reader->bad; i++)
		if (!next_limit(reader).known)
			reader->bad = true;
	return reader_done(reader);
}

void
profile_free(struct profile *profile)
{
	free(profile->cwd);
	free(profile->root);
}

/* Says why something could not be done: errno, of a path if there is one. */
static bool
refused(const char *path, char *reason, size_t size)
{
	if (path == NULL)
		(void)snprintf(reason, size, "%s", strerror(errno));
	else
		(void)snprintf(reason, size, "%s: %s", path, strerror(errno));
	return false;
}

static bool
take_limit(struct limit limit, char *reason, size_t size)
{
	struct rlimit own, wanted = { limit.value, limit.value };

	if (getrlimit(limit.number, &own) < 0)
		return refused(NULL, reason, size);
	if (limit.number == RLIMIT_CPU)
		wanted.rlim_max = own.rlim_max;
	if (setrlimit(limit.number, &wanted) == 0 &&
	    (limit.number != RLIMIT_CPU || setrlimit(limit.number, &own) == 0))
		return true;
	if (errno != EPERM && errno != EINVAL)
		return refused(NULL, reason, size);
	(void)snprintf(reason, size, "%s", errno == EPERM ?
	    "not allowed to raise maximum limit" : "current limit exceeds maximum limit");
	return false;
}

static bool
take_groups(struct list groups)
{
	gid_t *numbers = allocate(groups.count, sizeof *numbers);
	size_t count = 0;
	int result;

	while (groups.count > 0)
		numbers[count++] = number_next(&groups);
	result = setgroups(count, numbers);
	free(numbers);
	return result == 0;
}

/* Sets group and user, and makes sure that there is no way back to root. */
static bool
take_ids(const struct wire_profile *head, char *reason, size_t size)
{
	if (head->gid != WIRE_ABSENT_U32 && setresgid(head->gid, head->gid, head->gid) < 0)
		return refused(NULL, reason, size);
	if (head->uid == WIRE_ABSENT_U32)
		return true;
	if (setresuid(head->uid, head->uid, head->uid) < 0)
		return refused(NULL, reason, size);
	if (head->uid != 0 && setuid(0) == 0) {
		(void)snprintf(reason, size, "user id %u can still become root", head->uid);
		return false;
	}
	return true;
}

bool
privileges_take(const struct profile *profile, char *reason, size_t size)
{
	const struct wire_profile *head = &profile->head;
	const char *cwd = profile->cwd == NULL ? "/" : profile->cwd;
	struct reader limits = profile->limits;

	if (head->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return refused(NULL, reason, size);
	if (head->nice != WIRE_ABSENT_I32 && setpriority(PRIO_PROCESS, 0, head->nice) < 0)
		return refused(NULL, reason, size);
	if (profile->root != NULL && chroot(profile->root) < 0)
		return refused(profile->root, reason, size);
	if ((profile->cwd != NULL || profile->root != NULL) && chdir(cwd) < 0)
		return refused(cwd, reason, size);
	for (uint32_t i = 0; i < profile->limits_count; i++)
		if (!take_limit(next_limit(&limits), reason, size))
			return false;
	if (profile->has_groups && !take_groups(profile->groups))
		return refused(NULL, reason, size);
	if (!take_ids(head, reason, size))
		return false;
	if (head->umask != WIRE_ABSENT_U32)
		(void)umask((mode_t)head->umask);
	return true;
}

bool
limits_lend(const struct profile *profile, uint64_t nofile, char *reason, size_t size)
{
	struct limits_of_programs *lent = &limits_of_programs;
	struct reader limits = profile->limits;
	struct rlimit own;

	if (getrlimit(RLIMIT_NOFILE, &lent->nofile) < 0 || getrlimit(RLIMIT_CPU, &lent->cpu) < 0)
		return refused(NULL, reason, size);
	own = lent->nofile;
	lent->nofile.rlim_cur = nofile == WIRE_ABSENT_U64 ? RLIM_INFINITY : nofile;
	for (uint32_t i = 0; i < profile->limits_count; i++) {
		struct limit limit = next_limit(&limits);

		if (limit.number == RLIMIT_NOFILE)
			lent->nofile.rlim_cur = limit.value;
		else if (limit.number == RLIMIT_CPU)
			lent->cpu.rlim_cur = limit.value;
	}
	lent->has_nofile = lent->nofile.rlim_cur != own.rlim_cur;
	own = (struct rlimit){ lent->cpu.rlim_max, lent->cpu.rlim_max };
	lent->has_cpu = lent->cpu.rlim_cur != own.rlim_cur;
	if (setrlimit(RLIMIT_CPU, &own) < 0)
		return refused(NULL, reason, size);
	return true;
}

/* Generated from ucspid.ipc.messages by wire_header.py: make native. */
#ifndef UCSPID_WIRE_H
#define UCSPID_WIRE_H

#include <stddef.h>
#include <stdint.h>

enum {
	WIRE_VERSION = 1,
	WIRE_MAX_PACKET = 131072,
	WIRE_TAG_SIZE = 64,
	WIRE_MAX_IN_FLIGHT = 1024,
	WIRE_SOCKETS = 1,
	WIRE_SOCKETS_WITH_TLS = 3,
	WIRE_CONTROL = 3,
	WIRE_PLAIN = 4,
	WIRE_CAPACITY = 65536,
	WIRE_STATUS_UNKNOWN = -1,
	WIRE_STARTED = 16,
	WIRE_FAILED = 17,
	WIRE_EXITED = 18,
	WIRE_RUNNING = 19,
	WIRE_LISTED = 20,
	WIRE_HELLO = 21,
	WIRE_STDERR_KEPT = 0,
	WIRE_STDERR_GIVEN = 1,
	WIRE_STDERR_CLIENT = 2,
};

#define WIRE_ABSENT_U32 UINT32_MAX
#define WIRE_ABSENT_I32 INT32_MIN
#define WIRE_ABSENT_U64 UINT64_MAX

struct wire_start {
	uint8_t kind;
	uint32_t service;
	uint64_t connection;
	uint8_t tag[64];
};
enum {
	WIRE_START = 1,
	WIRE_START_SIZE = 80,
};
enum wire_start_tail {
	WIRE_START_VARIABLES_REST,
	WIRE_START_TAILS,
};
_Static_assert(offsetof(struct wire_start, service) == 4, "start.service");
_Static_assert(offsetof(struct wire_start, connection) == 8, "start.connection");
_Static_assert(offsetof(struct wire_start, tag) == 16, "start.tag");

struct wire_signal {
	uint8_t kind;
	uint16_t number;
	uint32_t process;
	uint64_t connection;
};
enum {
	WIRE_SIGNAL = 2,
	WIRE_SIGNAL_SIZE = 16,
};
_Static_assert(offsetof(struct wire_signal, number) == 2, "signal.number");
_Static_assert(offsetof(struct wire_signal, process) == 4, "signal.process");
_Static_assert(offsetof(struct wire_signal, connection) == 8, "signal.connection");

struct wire_list_sessions {
	uint8_t kind;
	uint64_t token;
};
enum {
	WIRE_LIST_SESSIONS = 3,
	WIRE_LIST_SESSIONS_SIZE = 16,
};
_Static_assert(offsetof(struct wire_list_sessions, token) == 8, "list_sessions.token");

struct wire_drain {
	uint8_t kind;
};
enum {
	WIRE_DRAIN = 4,
	WIRE_DRAIN_SIZE = 1,
};

struct wire_set_program {
	uint8_t kind;
	uint32_t service;
	uint8_t stderr_;
};
enum {
	WIRE_SET_PROGRAM = 33,
	WIRE_SET_PROGRAM_SIZE = 9,
};
enum wire_set_program_tail {
	WIRE_SET_PROGRAM_EXECUTABLE_TEXT,
	WIRE_SET_PROGRAM_ARGUMENTS_STRINGS,
	WIRE_SET_PROGRAM_ENVIRONMENT_STRINGS,
	WIRE_SET_PROGRAM_NAMES_STRINGS,
	WIRE_SET_PROGRAM_TAILS,
};
_Static_assert(offsetof(struct wire_set_program, service) == 4, "set_program.service");
_Static_assert(offsetof(struct wire_set_program, stderr_) == 8, "set_program.stderr");

struct wire_allow_names {
	uint8_t kind;
	uint32_t service;
};
enum {
	WIRE_ALLOW_NAMES = 35,
	WIRE_ALLOW_NAMES_SIZE = 8,
};
enum wire_allow_names_tail {
	WIRE_ALLOW_NAMES_NAMES_STRINGS,
	WIRE_ALLOW_NAMES_TAILS,
};
_Static_assert(offsetof(struct wire_allow_names, service) == 4, "allow_names.service");

struct wire_forbid_names {
	uint8_t kind;
	uint32_t service;
};
enum {
	WIRE_FORBID_NAMES = 36,
	WIRE_FORBID_NAMES_SIZE = 8,
};
enum wire_forbid_names_tail {
	WIRE_FORBID_NAMES_NAMES_STRINGS,
	WIRE_FORBID_NAMES_TAILS,
};
_Static_assert(offsetof(struct wire_forbid_names, service) == 4, "forbid_names.service");

struct wire_remove_programs {
	uint8_t kind;
};
enum {
	WIRE_REMOVE_PROGRAMS = 37,
	WIRE_REMOVE_PROGRAMS_SIZE = 1,
};
enum wire_remove_programs_tail {
	WIRE_REMOVE_PROGRAMS_SERVICES_NUMBERS,
	WIRE_REMOVE_PROGRAMS_TAILS,
};

struct wire_orphans {
	uint8_t kind;
};
enum {
	WIRE_ORPHANS = 38,
	WIRE_ORPHANS_SIZE = 1,
};
enum wire_orphans_tail {
	WIRE_ORPHANS_PROCESSES_NUMBERS,
	WIRE_ORPHANS_TAILS,
};

struct wire_orphan_exit {
	uint8_t kind;
	uint32_t process;
	int32_t status;
	uint64_t user;
	uint64_t system;
	uint64_t max_rss;
};
enum {
	WIRE_ORPHAN_EXIT = 34,
	WIRE_ORPHAN_EXIT_SIZE = 40,
};
_Static_assert(offsetof(struct wire_orphan_exit, process) == 4, "orphan_exit.process");
_Static_assert(offsetof(struct wire_orphan_exit, status) == 8, "orphan_exit.status");
_Static_assert(offsetof(struct wire_orphan_exit, user) == 16, "orphan_exit.user");
_Static_assert(offsetof(struct wire_orphan_exit, system) == 24, "orphan_exit.system");
_Static_assert(offsetof(struct wire_orphan_exit, max_rss) == 32, "orphan_exit.max_rss");

struct wire_take_privileges {
	uint8_t kind;
	uint32_t version;
	uint64_t nofile;
};
enum {
	WIRE_TAKE_PRIVILEGES = 32,
	WIRE_TAKE_PRIVILEGES_SIZE = 16,
};
enum wire_take_privileges_tail {
	WIRE_TAKE_PRIVILEGES_TITLE_TEXT,
	WIRE_TAKE_PRIVILEGES_PROFILE_PROFILE,
	WIRE_TAKE_PRIVILEGES_TAILS,
};
_Static_assert(offsetof(struct wire_take_privileges, version) == 4, "take_privileges.version");
_Static_assert(offsetof(struct wire_take_privileges, nofile) == 8, "take_privileges.nofile");

struct wire_ready {
	uint8_t kind;
	uint32_t version;
};
enum {
	WIRE_READY = 48,
	WIRE_READY_SIZE = 8,
};
_Static_assert(offsetof(struct wire_ready, version) == 4, "ready.version");

struct wire_privileges_refused {
	uint8_t kind;
};
enum {
	WIRE_PRIVILEGES_REFUSED = 49,
	WIRE_PRIVILEGES_REFUSED_SIZE = 1,
};
enum wire_privileges_refused_tail {
	WIRE_PRIVILEGES_REFUSED_REASON_TEXT,
	WIRE_PRIVILEGES_REFUSED_TAILS,
};

struct wire_signal_orphan {
	uint8_t kind;
	uint16_t number;
	uint32_t process;
};
enum {
	WIRE_SIGNAL_ORPHAN = 50,
	WIRE_SIGNAL_ORPHAN_SIZE = 8,
};
_Static_assert(offsetof(struct wire_signal_orphan, number) == 2, "signal_orphan.number");
_Static_assert(offsetof(struct wire_signal_orphan, process) == 4, "signal_orphan.process");

struct wire_report {
	uint8_t kind;
	int32_t status;
	uint32_t process;
	uint32_t service;
	uint64_t connection;
	uint64_t user;
	uint64_t system;
	uint64_t max_rss;
	uint8_t tag[64];
};
enum {
	WIRE_REPORT_SIZE = 112,
};
_Static_assert(offsetof(struct wire_report, kind) == 0, "report.kind");
_Static_assert(offsetof(struct wire_report, status) == 4, "report.status");
_Static_assert(offsetof(struct wire_report, process) == 8, "report.process");
_Static_assert(offsetof(struct wire_report, service) == 12, "report.service");
_Static_assert(offsetof(struct wire_report, connection) == 16, "report.connection");
_Static_assert(offsetof(struct wire_report, user) == 24, "report.user");
_Static_assert(offsetof(struct wire_report, system) == 32, "report.system");
_Static_assert(offsetof(struct wire_report, max_rss) == 40, "report.max_rss");
_Static_assert(offsetof(struct wire_report, tag) == 48, "report.tag");

struct wire_profile {
	uint32_t uid;
	uint32_t gid;
	uint32_t umask;
	int32_t nice;
	uint8_t no_new_privs;
};
enum {
	WIRE_PROFILE_SIZE = 17,
};
enum wire_profile_tail {
	WIRE_PROFILE_GROUPS_NUMBERS,
	WIRE_PROFILE_CWD_TEXT,
	WIRE_PROFILE_ROOT_TEXT,
	WIRE_PROFILE_RLIMITS_NAMEDLIMITS,
	WIRE_PROFILE_TAILS,
};
_Static_assert(offsetof(struct wire_profile, uid) == 0, "profile.uid");
_Static_assert(offsetof(struct wire_profile, gid) == 4, "profile.gid");
_Static_assert(offsetof(struct wire_profile, umask) == 8, "profile.umask");
_Static_assert(offsetof(struct wire_profile, nice) == 12, "profile.nice");
_Static_assert(offsetof(struct wire_profile, no_new_privs) == 16, "profile.no_new_privs");

struct wire_session_slot {
	uint64_t connection;
	uint32_t process;
	uint32_t service;
	uint8_t tag[64];
};
enum {
	WIRE_SESSION_SLOT_SIZE = 80,
};
_Static_assert(offsetof(struct wire_session_slot, connection) == 0, "session_slot.connection");
_Static_assert(offsetof(struct wire_session_slot, process) == 8, "session_slot.process");
_Static_assert(offsetof(struct wire_session_slot, service) == 12, "session_slot.service");
_Static_assert(offsetof(struct wire_session_slot, tag) == 16, "session_slot.tag");

#endif

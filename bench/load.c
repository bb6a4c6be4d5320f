/*
 * The load generator: many clients of one TCP service in one thread, with honest latencies.
 *
 *   load -p PORT [-n COUNT] [-c CLIENTS | -r RATE] [options] [-- LINE …]
 *
 * -n  so many connections in all (0: until standard input ends)
 * -c  a fixed number of clients: each connects again as soon as its connection has ended
 * -r  a fixed number of connections a second, whatever the server does. Latency counts from the
 *     moment at which a connection was due, so a server that stalls cannot hide it by
 *     slowing the load down
 * -a  source address of the clients, the first of -A COUNT consecutive ones, used in turn
 * -q  send the end of the client's data when the first bytes are there (the program then ends)
 * -k  hold each connection from its first bytes until standard input ends; -c is then how many wait for
 *     their first bytes at a time
 * -m  write "mark" to standard output when so many connections have got their first bytes
 * -t  seconds after which what has not ended is given up (60)
 * LINE …  what a client says: each after a whole SMTP reply (up to a line whose fourth byte is a space)
 *
 * Prints one line of JSON: connections by how they ended, seconds, CPU seconds of the generator, and
 * two histograms as [[nanoseconds, count], …]: connect to first byte, connect to the end of data. A value
 * is the upper bound of its class; classes are 1/128 of an octave wide or narrower.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SUB_BITS = 7, SUB = 1 << SUB_BITS, CLASSES = 40 * SUB, EVENTS = 256, RESERVED = 16, STDIN = -1, MAX_OPEN = 1 << 17 };

typedef unsigned long long u64;

struct client {
	int fd;
	u64 due;
	int answered;
	int said;
	int column;
	int last; /* of an SMTP reply: the fourth byte of the line was a space */
};

static struct sockaddr_in server = {.sin_family = AF_INET};
static u64 histogram_first[CLASSES], histogram_end[CLASSES];
static u64 started, answered, empty, failed, given_up, marked;
static int first_error;

static long wanted;
static long max_clients = 1;
static double rate;
static in_addr_t source;
static unsigned sources = 1;
static int quit, hold;
static char **lines;
static int line_count;

static struct client *clients;
static int *unused; /* a stack of indices into clients */
static long capacity, unused_count;
static int poller;
static int stopping;

static void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(111);
}

static u64 now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (u64)time.tv_sec * 1000000000 + (u64)time.tv_nsec;
}

/* Histograms: values below 2 * SUB exactly, above with SUB classes for each power of two. */

static void count(u64 *histogram, u64 value)
{
	int shift = value < 2 * SUB ? 0 : 63 - __builtin_clzll(value) - SUB_BITS;
	u64 class = (u64)shift * SUB + (value >> shift);

	histogram[class < CLASSES ? class : CLASSES - 1]++;
}

static u64 upper_bound(int class)
{
	int shift = class < 2 * SUB ? 0 : class / SUB - 1;

	return ((u64)(class - shift * SUB + 1) << shift) - 1;
}

static void print_histogram(const char *name, const u64 *histogram)
{
	const char *comma = "";

	printf(",\"%s\":[", name);
	for (int class = 0; class < CLASSES; class++)
		if (histogram[class]) {
			printf("%s[%llu,%llu]", comma, upper_bound(class), histogram[class]);
			comma = ",";
		}
	putchar(']');
}

/* One client */

static void end(struct client *client)
{
	close(client->fd);
	client->fd = -1;
	unused[unused_count++] = (int)(client - clients);
}

static void fail(struct client *client, int error)
{
	failed++;
	if (!first_error)
		first_error = error;
	end(client);
}

static void take_source(int fd)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	int on = 1;

	address.sin_addr.s_addr = htonl(ntohl(source) + (unsigned)(started % sources));
	/* The port is then chosen by connect(2), for this server, and not kept from all others. */
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
	if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
		die("bind");
}

static void start(u64 due)
{
	struct client *client = &clients[unused[--unused_count]];
	struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = (int)(client - clients)};

	*client = (struct client){.due = due, .fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
	if (client->fd < 0)
		die("socket");
	if (source)
		take_source(client->fd);
	started++;
	if (connect(client->fd, (struct sockaddr *)&server, sizeof server) < 0 && errno != EINPROGRESS)
		fail(client, errno);
	else if (epoll_ctl(poller, EPOLL_CTL_ADD, client->fd, &event) < 0)
		die("epoll_ctl");
}

static void speak(struct client *client, const char *data, ssize_t size)
{
	for (ssize_t at = 0; at < size; at++) {
		if (data[at] != '\n') {
			if (++client->column == 4)
				client->last = data[at] == ' ';
			continue;
		}
		client->column = 0;
		if (client->last && client->said < line_count) {
			const char *line = lines[client->said++];

			if (send(client->fd, line, strlen(line), MSG_NOSIGNAL) < 0)
				return; /* the server is gone: reading shows that */
		}
		client->last = 0;
	}
}

static void first_bytes(struct client *client)
{
	client->answered = 1;
	answered++;
	count(histogram_first, now() - client->due);
	if (answered == marked) {
		puts("mark");
		fflush(stdout);
	}
	if (quit || (hold && stopping))
		shutdown(client->fd, SHUT_WR);
}

static void ready(struct client *client)
{
	char data[4096];
	ssize_t size = recv(client->fd, data, sizeof data, 0);

	if (size < 0) {
		if (errno != EAGAIN)
			fail(client, errno);
		return;
	}
	if (size > 0) {
		if (!client->answered)
			first_bytes(client);
		speak(client, data, size);
		return;
	}
	if (!client->answered)
		empty++;
	count(histogram_end, now() - client->due);
	end(client);
}

/* All clients */

static void stop(void)
{
	stopping = 1;
	epoll_ctl(poller, EPOLL_CTL_DEL, 0, NULL);
	for (long at = 0; hold && at < capacity; at++)
		if (clients[at].fd >= 0 && clients[at].answered)
			shutdown(clients[at].fd, SHUT_WR);
}

static void standard_input(void)
{
	char data[64];

	if (read(0, data, sizeof data) <= 0)
		stop();
}

static int more(void)
{
	return !stopping && (wanted == 0 || started < (u64)wanted);
}

/* How many clients wait for the server; one that only holds its connection does not. */
static long waiting(void)
{
	return hold ? (long)(started - answered - empty - failed) : capacity - unused_count;
}

/* Start what is due; return nanoseconds until the next, or a negative number if that is not a matter of time. */
static long long start_due(u64 began)
{
	if (!rate) {
		for (long at = max_clients - waiting(); at > 0 && more(); at--)
			start(now());
		return -1;
	}
	while (more() && unused_count) {
		u64 due = began + (u64)((double)started * 1e9 / rate);
		u64 time = now();

		if (due > time)
			return (long long)(due - time);
		start(due);
	}
	return -1;
}

static void run(u64 began, u64 deadline)
{
	struct epoll_event events[EVENTS];

	for (;;) {
		long long wait = start_due(began);
		u64 time = now();

		if ((unused_count == capacity && !more()) || time >= deadline)
			return;
		if (wait < 0 || (u64)wait > deadline - time)
			wait = (long long)(deadline - time);
		struct timespec timeout = {.tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000};
		int got = epoll_pwait2(poller, events, EVENTS, &timeout, NULL);

		if (got < 0 && errno != EINTR)
			die("epoll_pwait2");
		for (int at = 0; at < got; at++) {
			if (events[at].data.fd == STDIN)
				standard_input();
			else if (clients[events[at].data.fd].fd >= 0)
				ready(&clients[events[at].data.fd]);
		}
	}
}

static void make_clients(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max < MAX_OPEN ? limit.rlim_max : MAX_OPEN; /* some hosts allow a billion */
	setrlimit(RLIMIT_NOFILE, &limit);
	capacity = rate || hold ? (long)limit.rlim_cur - RESERVED : max_clients;
	if (wanted && wanted < capacity)
		capacity = wanted;
	clients = calloc((size_t)capacity, sizeof *clients);
	unused = calloc((size_t)capacity, sizeof *unused);
	if (!clients || !unused)
		die("calloc");
	for (long at = capacity; at-- > 0;) {
		clients[at].fd = -1;
		unused[unused_count++] = (int)at;
	}
}

static void watch_standard_input(void)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = STDIN};

	if (epoll_ctl(poller, EPOLL_CTL_ADD, 0, &event) < 0)
		die("standard input must be a pipe");
}

static double cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static int usage(void)
{
	fprintf(stderr, "usage: load -p port [-n count] [-c clients | -r rate] [-a address] [-A count] "
			"[-q] [-k] [-m count] [-t seconds] [-- line ...]\n");
	return 100;
}

int main(int argument_count, char **arguments)
{
	double seconds = 60;
	int option;

	while ((option = getopt(argument_count, arguments, "p:n:c:r:a:A:qkm:t:")) != -1)
		switch (option) {
		case 'p': server.sin_port = htons((unsigned short)atoi(optarg)); break;
		case 'n': wanted = atol(optarg); break;
		case 'c': max_clients = atol(optarg); break;
		case 'r': rate = atof(optarg); break;
		case 'a': source = inet_addr(optarg); break;
		case 'A': sources = (unsigned)atoi(optarg); break;
		case 'q': quit = 1; break;
		case 'k': hold = 1; break;
		case 'm': marked = (u64)atoll(optarg); break;
		case 't': seconds = atof(optarg); break;
		default: return usage();
		}
	if (!server.sin_port || max_clients < 1 || sources < 1)
		return usage();
	lines = arguments + optind;
	line_count = argument_count - optind;
	server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	poller = epoll_create1(EPOLL_CLOEXEC);
	make_clients();
	if (!wanted || hold)
		watch_standard_input();
	u64 began = now();
	run(began, began + (u64)(seconds * 1e9));
	double took = (double)(now() - began) / 1e9;

	given_up = (u64)(capacity - unused_count);
	printf("{\"started\":%llu,\"answered\":%llu,\"empty\":%llu,\"failed\":%llu,\"given_up\":%llu", started, answered,
	       empty, failed, given_up);
	printf(",\"error\":\"%s\"", first_error ? strerror(first_error) : "");
	printf(",\"seconds\":%.6f,\"cpu\":%.6f", took, cpu_seconds());
	print_histogram("first", histogram_first);
	print_histogram("end", histogram_end);
	puts("}");
	return 0;
}

/*
 * Two floors to measure against.
 *
 *   floor close            accepts and closes: shows what the load generator can do
 *   floor exec PROGRAM …   accepts, vforks, executes: the least that a server can spend on a connection
 *
 * Prints the port it listens on at 127.0.0.1, and serves until it is killed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BACKLOG = 1024 };

static int die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(111);
}

static int listening(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof address;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) < 0)
		die("bind");
	if (listen(listener, BACKLOG) < 0 || getsockname(listener, (struct sockaddr *)&address, &size) < 0)
		die("listen");
	printf("%d\n", ntohs(address.sin_port));
	fflush(stdout);
	return listener;
}

static void start(int client, char **program)
{
	pid_t pid = vfork();

	if (pid < 0)
		die("vfork");
	if (pid == 0) {
		dup2(client, 0);
		dup2(client, 1);
		execv(program[0], program);
		_exit(111);
	}
}

int main(int count, char **arguments)
{
	if (count < 2 || (strcmp(arguments[1], "close") != 0 && (strcmp(arguments[1], "exec") != 0 || count < 3))) {
		fprintf(stderr, "usage: floor close | floor exec program [argument ...]\n");
		return 100;
	}
	char **program = strcmp(arguments[1], "exec") == 0 ? arguments + 2 : NULL;
	int listener = listening();

	for (;;) {
		int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (client >= 0) {
			if (program)
				start(client, program);
			close(client);
		} else if (errno != EINTR && errno != ECONNABORTED) {
			die("accept");
		}
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
}

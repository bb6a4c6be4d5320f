/*
 * What is behind TLS: answers requests of nine bytes, a letter and a count (little endian).
 *
 *   e COUNT: send back the COUNT bytes that follow
 *   u COUNT: read the COUNT bytes that follow, then send one byte
 *   d COUNT: send COUNT bytes
 *
 * Without arguments it serves descriptors 0 and 1, as a program of a superserver. With the argument "listen" it
 * listens on a port of 127.0.0.1 that the kernel chooses, writes its number to standard output, and serves each
 * connection in a process: the backend of servers that forward.
 */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char buffer[65536];

static int read_all(int from, char *to, size_t size)
{
	while (size) {
		ssize_t got = read(from, to, size);
		if (got <= 0)
			return -1;
		to += got;
		size -= (size_t)got;
	}
	return 0;
}

static int write_all(int to, const char *from, size_t size)
{
	while (size) {
		ssize_t sent = write(to, from, size);
		if (sent <= 0)
			return -1;
		from += sent;
		size -= (size_t)sent;
	}
	return 0;
}

static int answer(int in, int out, char what, uint64_t count)
{
	while (count) {
		size_t size = count < sizeof buffer ? (size_t)count : sizeof buffer;
		if (what != 'd' && read_all(in, buffer, size) < 0)
			return -1;
		if (what != 'u' && write_all(out, buffer, size) < 0)
			return -1;
		count -= size;
	}
	return what == 'u' ? write_all(out, "k", 1) : 0;
}

static int serve(int in, int out)
{
	unsigned char request[9];
	while (read_all(in, (char *)request, sizeof request) == 0) {
		uint64_t count = 0;
		for (int place = 8; place > 0; place--)
			count = count << 8 | request[place];
		if (answer(in, out, (char)request[0], count) < 0)
			return 1;
	}
	return 0;
}

static int serve_all(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof address;
	int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listener, (struct sockaddr *)&address, size) < 0 || listen(listener, 1024) < 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &size) < 0)
		return 111;
	printf("%d\n", ntohs(address.sin_port));
	fflush(stdout);
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int sock = accept(listener, NULL, NULL);
		if (sock < 0)
			continue;
		if (fork() == 0) {
			close(listener);
			setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
			_exit(serve(sock, sock));
		}
		close(sock);
	}
}

int main(int count, char **words)
{
	return count > 1 && strcmp(words[1], "listen") == 0 ? serve_all() : serve(0, 1);
}

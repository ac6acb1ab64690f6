/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * To be preloaded (ld.so(8)): the call numbered $FAIL_AT of $FAIL_CALL fails
 * with $FAIL_WITH (a name such as EIO), with $FAIL_ON all that follow, too.
 * Descriptor 2 is the log: a line in it says where that began, another one
 * that it was a call for the log.
 */
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* glibc's own, as dlsym(3) allocates. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);

static const char *name = "";
static int error;
static long left; /* 1 for the one that fails, 0 for none */
static bool on;

static void
say(const char *text)
{
	(void)!syscall(SYS_write, STDERR_FILENO, text, strlen(text));
}

static bool
fails_on(const char *call, int fd)
{
	static bool said, said_log;

	if (left == 0 || strcmp(call, name) != 0 || (left > 1 && left-- > 0))
		return false;
	left = on ? 1 : 0;
	if (!said)
		say("failcalls: begins\n");
	said = true;
	if (!said_log && fd == STDERR_FILENO) {
		say("failcalls: the log\n");
		said_log = true;
	}
	errno = error;
	return true;
}

static bool
fails(const char *call)
{
	return fails_on(call, -1);
}

/* Defines a call that fails as -1 or is the C library's. */
#define CALL(type, call, parameters, ...)                              \
	type call parameters                                           \
	{                                                              \
		static type (*real) parameters;                        \
		if (fails(#call))                                      \
			return -1;                                     \
		if (real == NULL)                                      \
			*(void **)&real = dlsym(RTLD_NEXT, #call);     \
		return real(__VA_ARGS__);                              \
	}

CALL(ssize_t, read, (int fd, void *p, size_t n), fd, p, n)
CALL(ssize_t, pread, (int fd, void *p, size_t n, off_t at), fd, p, n, at)
CALL(ssize_t, send, (int fd, const void *p, size_t n, int flags), fd, p, n,
    flags)
CALL(ssize_t, recv, (int fd, void *p, size_t n, int flags), fd, p, n, flags)
CALL(ssize_t, getrandom, (void *p, size_t n, unsigned int flags), p, n, flags)
CALL(int, socket, (int domain, int type, int protocol), domain, type, protocol)
CALL(int, connect, (int fd, __CONST_SOCKADDR_ARG a, socklen_t n), fd, a, n)

ssize_t
write(int fd, const void *p, size_t n)
{
	static ssize_t (*real)(int, const void *, size_t);

	if (fails_on("write", fd))
		return -1;
	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "write");
	return real(fd, p, n);
}

/* As poll.h declares it nobody reads what he is given. */
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

int
poll(struct pollfd *fds, nfds_t n, int wait)
{
	static int (*real)(struct pollfd *, nfds_t, int);

	if (fails_on("poll", n > 0 ? fds->fd : -1))
		return -1;
	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "poll");
	return real(fds, n, wait);
}

int
open(const char *path, int flags, ...)
{
	static int (*real)(const char *, int, ...);
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = va_arg(args, mode_t);
	va_end(args);
	if (fails("open"))
		return -1;
	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "open");
	return real(path, flags, mode);
}

void *
malloc(size_t size)
{
	return fails("malloc") ? NULL : __libc_malloc(size);
}

void *
calloc(size_t n, size_t size)
{
	return fails("calloc") ? NULL : __libc_calloc(n, size);
}

__attribute__((constructor)) static void
start(void)
{
	const char *at, *with;
	int i;

	at = getenv("FAIL_AT");
	with = getenv("FAIL_WITH");
	if (at == NULL || with == NULL || getenv("FAIL_CALL") == NULL)
		return;
	name = strdup(getenv("FAIL_CALL"));
	for (i = 1; i < 134; i++)
		if (strerrorname_np(i) != NULL &&
		    strcmp(strerrorname_np(i), with) == 0)
			error = i;
	on = getenv("FAIL_ON") != NULL;
	left = strtol(at, NULL, 10);
}

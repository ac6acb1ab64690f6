/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reads a whole file.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"

#include "banned.h"

/*
 * Root without the capability DAC_OVERRIDE, as in a container, may not read
 * what compose mounts there for its owner alone, but become that owner.
 */
static int
open_as_owner(const char *path)
{
	struct stat st;
	int fd = -1;

	if (geteuid() == 0 && stat(path, &st) == 0 && seteuid(st.st_uid) == 0) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (seteuid(0) == -1)
			abort();
	}
	if (fd == -1)
		errno = EACCES;
	return fd;
}

int
file_read(const char *path, struct buf *text, struct stat *st)
{
	char chunk[1024];
	struct stat unasked;
	ssize_t n;
	int fd, saved;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd == -1 && errno == EACCES)
		fd = open_as_owner(path);
	if (fd == -1)
		return -1;
	n = fstat(fd, st == NULL ? &unasked : st);
	while (n != -1 && text->error == 0) {
		n = read(fd, chunk, sizeof(chunk));
		if (n == 0)
			break;
		if (n > 0)
			buf_add(text, chunk, (size_t)n);
	}
	saved = n == -1 ? errno : text->error;
	explicit_bzero(chunk, sizeof(chunk));
	(void)close(fd);
	errno = saved;
	return saved == 0 ? 0 : -1;
}

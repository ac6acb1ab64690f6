/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the fuzz targets share: libFuzzer's entry points, the oracle's word,
 * and files in memory.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* llvm.org/docs/LibFuzzer.html */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void
require(bool condition, const char *what)
{
	if (condition)
		return;
	(void)fprintf(stderr, "%s: want %s\n", program_invocation_short_name,
	    what);
	abort();
}

/* Makes a file of these octets, to be read from its start. */
static inline void
fill(int fd, const void *data, size_t size)
{
	require(ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0,
	    "an empty file");
	require(write(fd, data, size) == (ssize_t)size, "a full file");
	require(lseek(fd, 0, SEEK_SET) == 0, "a file at its start");
}

#endif

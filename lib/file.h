/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reads a whole file.
 */
#ifndef FILE_H
#define FILE_H

#include <sys/stat.h>

#include "buf.h"

/*
 * Appends what the file at path holds to *text; *st (NULL where nobody asks)
 * is what fstat(2) says of it.  Returns 0, or -1 with errno, EMSGSIZE when it
 * is larger than the buffer may become.  Leaves no copy behind.  Root that may
 * not read it does so as its owner.
 */
int file_read(const char *path, struct buf *text, struct stat *st);

#endif

/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Linked with --wrap=_exit into what `make coverage` builds: a child that
 * ends by _exit(2) keeps what gcov counted.
 */
void __gcov_dump(void);
void __real__exit(int status) __attribute__((noreturn));
void __wrap__exit(int status) __attribute__((noreturn));

void
__wrap__exit(int status)
{
	__gcov_dump();
	__real__exit(status);
}

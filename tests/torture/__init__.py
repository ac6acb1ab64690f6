# SPDX-License-Identifier: GPL-3.0-or-later
"""Mail after mail through the real servers while everything around fails.

run         the whole of it
plan        what is sent and what fails, all of it from a seed
world       the real Swift, Keystone, Postfix and what takes forwards
mails       content of any size
store       the proxy in front of Swift, with its faults
behind      the proxy in front of the server behind, with its faults
client      one mail given to a filter of its own
front       one mail given to the Postfix in front
ledger      what was said of each mail, noted before the next step
reconcile   what became of them; what must not be
mutants     the program with a fault put in, which must be found
failcalls.c makes a call of the program fail

`make torture MINUTES=10 SEED=1` runs it.
"""

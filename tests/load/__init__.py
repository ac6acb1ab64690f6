# SPDX-License-Identifier: GPL-3.0-or-later
"""Many mails on many sessions at once, and what became of each.

sender      sends them, again where it is told to, and keeps the ledger
account     the ledger against what the store has
servers     a Postfix with swiftdrop under spawn(8), or under a booted systemd;
            the store that keeps a line of each object
watch       memory, descriptors and processes meanwhile and afterwards

`make load` runs it, and `make check` a short version.
"""

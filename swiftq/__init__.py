# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (C) 2026 the swiftdrop authors
"""Take the mail that swiftdrop(8) stored out of its Swift container.

A message moves through folders of one container, and always by a copy that
is verified and a delete that follows it:

    cur/ -> processing/ -> done/ | failed/ | retry/<due>.<tries>/ -> ...

So at any moment, whatever dies, at least one whole copy is there.  Each
message is worked on under a lock of its own name; what a dead worker leaves
in processing/ is given back by "recover".  The result is at-least-once: a
message is processed again only when a worker died or lost its lock.

swiftq(1) describes commands, names, folders and locks.  The modules, each of
which imports only from those before it:

    faults      what can go wrong, and how a command then ends
    config      the accounts of swiftdrop.ini(5)
    message     names of objects, and their metadata
    lock        one owner for each message: flock(2) or Redis
    store       one container; the only module that imports swiftclient
    report      events, as text or JSON
    queue       the moves of a message
    search      find: by metadata, or by the header of the content
    status      how much is in which folder
    worker      run: a command for each message
    commands    the command line
"""

__version__ = '0.2.0'

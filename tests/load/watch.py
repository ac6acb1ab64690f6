# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory and descriptors of processes, as /proc has them."""

import contextlib
import os
import re
import threading


def _kib(path, key):
    with contextlib.suppress(OSError), open(path) as file:
        if found := re.search(rf"(?m)^{key}:\s+(\d+) kB", file.read()):
            return int(found[1])
    return 0


def descriptors(pid):
    """How many it has open; 0 where it is gone."""
    with contextlib.suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return 0


def resident_kib(pid):
    return _kib(f"/proc/{pid}/status", "VmRSS")


class Watch:
    """Looks at filters until it is told to end; a context manager.

    pids        a function that returns their process ids
    """

    def __init__(self, pids, interval_s=0.5):
        self.peak_kib = 0       # of one of them, VmHWM
        self.sum_kib = 0        # of all at a time, what they share once
        self.most = 0           # at a time
        self._pids = pids
        self._interval_s = interval_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()

    def _run(self):
        while not self._end.wait(self._interval_s):
            pids = list(self._pids())
            self.most = max(self.most, len(pids))
            self.peak_kib = max([self.peak_kib] + [
                _kib(f"/proc/{pid}/status", "VmHWM") for pid in pids])
            self.sum_kib = max(self.sum_kib, sum(
                _kib(f"/proc/{pid}/smaps_rollup", "Pss") for pid in pids))

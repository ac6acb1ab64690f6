# SPDX-License-Identifier: GPL-3.0-or-later
"""The real servers around swiftdrop, run privately for tests and the demo.

Each server listens on 127.0.0.1 alone, on a port nobody else has, keeps all
it writes in a folder of its own, and dies with the process that started it.
"""

from .ceph import Ceph
from .keystone import Keystone
from .postfix import Postfix, Sink
from .process import LabError
from .swift import Container, Swift
from .tls import Authority, Tls

__all__ = ["Authority", "Ceph", "Container", "Keystone", "LabError", "Postfix",
           "Sink", "Swift", "Tls", "ini_text"]


def ini_text(sections):
    """Returns a swiftdrop.ini with these sections, a dict of dicts."""
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n"
                                for key, value in options.items())
        for name, options in sections.items())

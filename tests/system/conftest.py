# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures."""

from helpers.fixtures import bench, relay, store  # noqa: F401

# SPDX-License-Identifier: GPL-3.0-or-later
"""What the black-box tests share."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception that the command line turns into a line of text."""


class SoftTeeError(Exception):
    pass

# SPDX-License-Identifier: GPL-3.0-or-later
"""A management controller for tests and for trying things: stateful, over TLS, with the manners and the bad manners of several vendors."""

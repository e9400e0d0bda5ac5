# SPDX-License-Identifier: GPL-3.0-or-later
"""What the services that tests and demonstrations meet on loopback have in common: how they are served, their certificates, and bad manners on demand."""

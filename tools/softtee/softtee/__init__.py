# SPDX-License-Identifier: GPL-3.0-or-later
"""A userspace TEE for laptops, CI and demonstrations. It proves nothing about the machine it runs on."""

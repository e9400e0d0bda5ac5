# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines with GPUs that are not there: a made-up sysfs and a double of NVIDIA's admin tool, for tests and for trying the modules."""

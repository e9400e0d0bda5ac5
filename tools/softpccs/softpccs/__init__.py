# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-ins for what TDX quoting talks to: a PCCS, Intel's registration service, QGS, and a platform's firmware with Intel's tools. None proves anything."""

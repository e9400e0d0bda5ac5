# SPDX-License-Identifier: GPL-3.0-or-later
"""A key broker for tests and laptops: the protocol of Trustee's KBS 0.21, its errors and its oddities, with the sample TEE. Nothing it holds is protected."""

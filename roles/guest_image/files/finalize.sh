#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Runs on the builder, last. Takes out what differs from build to build and nobody reads.
set -eu
cd "$BUILDROOT"
rm -rf var/cache/ldconfig var/lib/systemd var/log tmp/* var/tmp/* run/* root/.[!.]*
# What Python compiles is not the same each time.
find usr -name __pycache__ -prune -exec rm -rf {} +
# Places of mounts.
mkdir -p scratch var/log
: >etc/machine-id

#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Start an emulated Arm machine with the Realm Management Extension from images of yours, its console on this terminal.
#
#   rme_lab.sh FLASH KERNEL [FOLDER]
#
# FLASH   bl1.bin with fip.bin at 256 KiB behind it, of a TF-A for PLAT=qemu with ENABLE_RME=1, your RMM,
#         ARM_LINUX_KERNEL_AS_BL33=1 and PRELOADED_BL33_BASE=0x60200000
# KERNEL  an uncompressed arm64 Image that brings its own root file system (initramfs) with /init
# FOLDER  shared with the machine by 9p under the tag "host"
#
# QEMU (11 was tried; RME_LAB_QEMU names another), RME_LAB_APPEND for more words on the kernel's command line.
# The machine needs no KVM and no network, and ends with `poweroff -f` in it or Ctrl-A X here.
set -eu

if [ $# -lt 2 ] || [ $# -gt 3 ]; then
  sed -n '3,14s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
flash=$1
kernel=$2
for image in "$flash" "$kernel"; do
  if [ ! -r "$image" ]; then
    echo "$image cannot be read" >&2
    exit 2
  fi
  case $image in
    *,*) echo "$image: QEMU takes a comma in a name for the end of it; move the file" >&2; exit 2 ;;
  esac
done
share=${3:-}
set --
if [ -n "$share" ]; then
  set -- -virtfs "local,path=$share,mount_tag=host,security_model=mapped"
fi

# The firmware starts the kernel where the loader put it; -kernel only lets QEMU pass the command line on.
exec "${RME_LAB_QEMU:-qemu-system-aarch64}" \
  -nodefaults -display none -serial mon:stdio \
  -machine virt,secure=on,virtualization=on,gic-version=3,acpi=off -cpu max,x-rme=on -smp 1 -m 2G \
  -bios "$flash" -kernel "$kernel" \
  -device "loader,file=$kernel,addr=0x60200000,force-raw=on" \
  -append "nokaslr console=ttyAMA0 rdinit=/init ${RME_LAB_APPEND:-}" \
  "$@"

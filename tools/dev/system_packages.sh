#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Install the system packages that are missing, and only those, saying which and why. Usage: system_packages.sh demo|test|vm
# Each need is tested by what it gives (a command, a library), not by the package's name: whoever has it from elsewhere installs nothing.
set -eu

missing=""

need() { # package, reason, test...
  package=$1 reason=$2
  shift 2
  if ! "$@" >/dev/null 2>&1; then
    echo "  $package is missing: $reason"
    missing="$missing $package"
  fi
}

has() { command -v "$1" || [ -x "/usr/sbin/$1" ]; }
has_libfuse() { ldconfig -p | grep -q 'libfuse3\.so' || /sbin/ldconfig -p | grep -q 'libfuse3\.so'; }
has_fuse() { has fusermount3 && has_libfuse; }
# Ubuntu has no package of a browser that a program can start: there it is one that is here already, or none.
has_browser() {
  has "${ATTESTED_BROWSER:-chromium}" || has google-chrome || [ "${ATTESTED_BROWSER:-}" = none ] || ! grep -qx 'ID=debian' /etc/os-release
}
# A compiler alone is not enough: without the C library's headers nothing can be built.
has_compiler() { has cc && echo '#include <stdio.h>' | cc -fsyntax-only -x c -; }

# Debian and Ubuntu split venv off: without it python3 makes no virtual environment.
python_package=python3-venv
need "$python_package" "a Python from 3.11 to 3.13 that can make virtual environments" "$(dirname "$0")/find_python.sh"
need fuse3 "the Soft TEE serves the kernel's report interface through FUSE (fusermount3 and libfuse3)" has_fuse
need gcc "the demo's GPUs answer through a small library in the place of NVIDIA's, built here from C" has_compiler
need libc6-dev "the headers for it" has_compiler
if [ "$1" = test ]; then
  need git "checks read the list of files from it, and ansible-test wants a repository" has git
  need openssh-server "tests attest through a real sshd on loopback" has sshd
  need openssh-client "the same tests connect with it" has ssh
  need swtpm "the Azure collector is tested against a real TPM 2.0 in software" has swtpm
  need debian-archive-keyring "a skopeo that encrypts is taken from Debian 13 where this machine has an older one" test -e /usr/share/keyrings/debian-archive-keyring.gpg
  need chromium "reports are looked at in a real browser" has_browser
  need tpm2-tools "a second opinion on the quotes of that TPM" has tpm2_checkquote
fi

if [ "$1" = test ] || [ "$1" = vm ]; then
  need qemu-system-x86 "roles that install kernels and reboot are tried on real machines, emulated" has qemu-system-x86_64
  need qemu-utils "disks of these machines" has qemu-img
  need mmdebstrap "their Debian is made with it" has mmdebstrap
  need e2fsprogs "and their file systems" has mkfs.ext4
  need zstd "the memory of a machine that has booted is kept packed" has zstd
  need podman "roles are tried in containers with systemd for every commit" has podman
  need crun "the runtime of these containers" has crun
fi

if [ "$1" = vm ]; then
  need systemd-container "images of guests are built, and started under libvirt, in a container with a Debian of its own" has systemd-nspawn
fi

[ -n "$missing" ] || exit 0

as_root=""
if [ "$(id -u)" -ne 0 ]; then
  as_root=sudo
  has sudo || { echo "Neither root nor sudo here. Ask for:$missing" >&2; exit 1; }
fi
has apt-get || { echo "No apt-get here. Install what your distribution calls:$missing" >&2; exit 1; }
echo "  installing:$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086 # a list of names, and sudo or nothing
if ! { $as_root apt-get -qq update && $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends $missing; } >"$log" 2>&1 </dev/null; then
  tail -n 20 "$log" >&2
  echo "apt-get could not install:$missing" >&2
  exit 1
fi

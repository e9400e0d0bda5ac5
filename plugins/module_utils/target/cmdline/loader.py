# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The boot loader of a machine, found by what is there and not by the name of the distribution."""

from __future__ import annotations

import re
from typing import Callable, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline import drop_in, edited
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.system import Change, System
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.words import Wish

Plan = Callable[[System, Wish, bool], Change]
Apply = Callable[[System, Wish, bool], None]

OSTREE = "/run/ostree-booted"
# What the boot loader says of itself (Boot Loader Interface of systemd): two bytes a letter.
LOADER_INFO = "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
SUSE = "/etc/sysconfig/bootloader"


def loader_of(system: System) -> Tuple[Plan, Apply]:
    """How the command line is planned and applied here. Raises HostError where nothing is known to work, or what is there is not what boots."""
    if system.read(OSTREE) is not None or system.find("rpm-ostree"):
        raise HostError(
            "the root file system is replaced as a whole by ostree", code="boot-loader-unknown",
            fix="Set the parameters with `rpm-ostree kargs --append-if-missing=...`",
        )  # fmt: skip
    booted = (system.read(LOADER_INFO) or "").replace("\0", "")
    if "systemd-boot" in booted:
        raise HostError(
            "the machine was started by systemd-boot, which reads nothing of GRUB's", code="boot-loader-unknown",
            fix="Set the parameters in /etc/kernel/cmdline by hand, and make the entries or the unified kernel images anew (kernel-install)",
        )  # fmt: skip
    kind = re.search(r"^[ \t]*LOADER_TYPE=[\"']?([A-Za-z0-9-]*)", system.read(SUSE) or "", re.MULTILINE)
    if kind and kind.group(1) not in ("", "grub2", "grub2-efi"):
        raise HostError(
            "the boot loader is %s" % kind.group(1), where=SUSE, code="boot-loader-unknown",
            fix="Set the parameters in /etc/kernel/cmdline by hand, and make the entries anew (sdbootutil update-all-entries)",
        )  # fmt: skip
    if system.find("transactional-update"):
        raise HostError(
            "the root file system is replaced as a whole by transactional-update", code="boot-loader-unknown",
            fix="Set the parameters with `transactional-update shell` and grub2-mkconfig",
        )  # fmt: skip
    if drop_in.usable(system):
        return drop_in.plan, drop_in.apply
    editor = edited.GRUBBY if system.find("grubby") else edited.GRUB_DEFAULT
    if editor is edited.GRUB_DEFAULT and not (system.find("grub2-mkconfig") or system.find("grub-mkconfig")):
        raise HostError(
            "no boot loader is found whose settings can be edited: no update-grub, no grubby, no grub-mkconfig", code="boot-loader-unknown",
            fix="Set the parameters by hand: in /etc/kernel/cmdline with systemd-boot or a unified kernel image, which is made anew then; in "
            "extlinux.conf or the variable bootargs with U-Boot",
        )  # fmt: skip
    return (
        lambda system, wish, present: edited.plan(system, editor, wish, present),
        lambda system, wish, present: edited.apply(system, editor, wish, present),
    )

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The boot loader of a machine, found by what is there and not by the name of the distribution."""

from __future__ import annotations

from typing import Callable, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline import drop_in, edited
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.system import Change, System
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.words import Wish

Plan = Callable[[System, Wish, bool], Change]
Apply = Callable[[System, Wish, bool], None]


def loader_of(system: System) -> Tuple[Plan, Apply]:
    """How the command line is planned and applied here. Raises HostError where nothing is known to work."""
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
            fix="With systemd-boot or a unified kernel image, set the parameters in /etc/kernel/cmdline by hand and make the image anew",
        )  # fmt: skip
    return (
        lambda system, wish, present: edited.plan(system, editor, wish, present),
        lambda system, wish, present: edited.apply(system, editor, wish, present),
    )

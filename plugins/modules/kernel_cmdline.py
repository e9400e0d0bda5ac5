#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: kernel_cmdline
short_description: Set parameters on the kernel command line, one by one
version_added: 0.1.0
description:
  - Adds parameters to the kernel command line and takes others off it, for all kernels that are installed and all that will be. The rest of
    the line is left as it is.
  - Where grub-mkconfig reads C(/etc/default/grub.d) (Debian, Ubuntu), a file of its own filters what others set and adds its own words, so
    that nobody else's file is changed. Elsewhere C(grubby) is used, or the line in C(/etc/default/grub), and what was changed is recorded
    under C(/var/lib/attested-ai/kernel-cmdline). With O(state=absent) that is taken back, as far as no other owner wants it so. With C(grubby), a word that
    only some kernels had comes back for all.
  - Machines that were started by systemd-boot, that replace their root file system as a whole (ostree, transactional-update), or whose boot loader is none
    of these, are refused with what to do by hand.
  - After the change the entries of the boot loader are read again. If another setting wins over this one, the task fails and names the entry.
  - A run that was interrupted is finished by the next.
  - The machine is not rebooted. RV(reboot_required) tells whether the kernel that runs was started otherwise.
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  owner:
    description:
      - Name of this set of parameters. Sets of several owners live side by side; the last in the order of the alphabet wins.
      - Lower case letters, digits, dashes and underscores.
    type: str
    required: true
  present:
    description:
      - Parameters that shall be there, such as V(nohibernate) or V(kvm_intel.tdx=1). Each takes the place of any other value of its name, so name all values
        of a parameter that may be repeated.
      - Only plain words. Quotes, blanks, V($) and V(;) mean something to boot loaders and are refused.
    type: list
    elements: str
    default: []
  absent:
    description: Parameters that must not be there. V(iommu=pt) goes only with this value, V(iommu) with any.
    type: list
    elements: str
    default: []
  state:
    description: V(absent) takes back what this module did for O(owner), and ignores O(present) and O(absent).
    type: str
    choices: [present, absent]
    default: present
notes:
  - Run it as root (C(become)). Python's standard library is enough on the machine.
  - GRUB with drop-ins was run on Debian 13. Of C(grubby) the script of the package was run over entries in a folder, not on a machine that boots;
    C(/etc/default/grub) is tested only against an imitation of grub2-mkconfig.
  - In C(/etc/default/grub) only E(GRUB_CMDLINE_LINUX_DEFAULT) is edited, and only as one quoted value on one line; anything else is refused. A parameter that
    E(GRUB_CMDLINE_LINUX) sets otherwise makes the task fail, on every run, until it is taken off by hand. Entries for recovery are not checked there.
seealso:
  - module: attested.ai.tee_info
"""

EXAMPLES = r"""
- name: What TDX needs
  attested.ai.kernel_cmdline:
    owner: tdx_host
    present: [nohibernate]
  become: true
  register: cmdline

- name: No passthrough of the IOMMU, which SEV-SNP refuses
  attested.ai.kernel_cmdline:
    owner: snp_host
    absent: [iommu=pt, iommu.passthrough, amd_iommu=off]
  become: true

- name: Take it back
  attested.ai.kernel_cmdline:
    owner: tdx_host
    state: absent
  become: true
"""

RETURN = r"""
loader:
  description: How the command line is set here, V(grub-drop-in), V(grubby) or V(grub-default).
  returned: success
  type: str
  sample: grub-drop-in
reboot_required:
  description: Whether the running kernel was started with a command line that is not as wanted, or still has words that were taken off.
  returned: success
  type: bool
  sample: true
running:
  description: The command line of the running kernel.
  returned: success
  type: str
  sample: BOOT_IMAGE=/boot/vmlinuz-7.0.4-amd64 root=UUID=0a3407de-014b-458b-b5c1-848e92a327a3 ro quiet
next_kernel:
  description: Release of the kernel that the boot loader starts by itself. Empty where that cannot be told, such as with C(GRUB_DEFAULT=saved).
  returned: success
  type: str
  sample: 7.0.4-amd64
running_kernel:
  description: Release of the kernel that runs.
  returned: success
  type: str
  sample: 6.12.48-amd64
code:
  description:
    - A stable word for the reason of a failure, V(host), V(boot-loader-unknown), V(boot-loader-failed), V(boot-loader-overridden) or V(boot-loader-line).
  returned: failure
  type: str
  sample: boot-loader-overridden
"""

import errno
import os
import tempfile
from typing import NoReturn, Optional, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, HostError
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.loader import loader_of
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.system import System
from ansible_collections.attested.ai.plugins.module_utils.target.cmdline.words import wish

ARGUMENT_SPEC = {
    "owner": {"type": "str", "required": True},
    "present": {"type": "list", "elements": "str", "default": []},
    "absent": {"type": "list", "elements": "str", "default": []},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def read(path: str) -> Optional[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError("it cannot be read: %s" % error.strerror, where=path, fix="Run the task as root (become: true)") from None


def listdir(path: str) -> Tuple[str, ...]:
    try:
        return tuple(sorted(os.listdir(path)))
    except OSError:
        return ()


def remove(path: str) -> None:
    try:
        os.unlink(path)
        settle(os.path.dirname(path))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise not_written(path, error) from None


def not_written(path: str, error: OSError) -> HostError:
    fix = {errno.EROFS: "Mount its file system for writing", errno.ENOSPC: "Make room on its file system", errno.EDQUOT: "Make room on its file system"}
    return HostError("it cannot be written: %s" % error.strerror, where=path, fix=fix.get(error.errno or 0, "Run the task as root (become: true)"))


def settle(folder: str) -> None:
    """Have names that were changed in a folder outlive a loss of power."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def shown(text: str) -> str:
    """What can be sent: a file may hold bytes that are no text."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def system_of(module: AnsibleModule) -> System:
    def write(path: str, text: str) -> None:
        scratch = ""
        folder = os.path.dirname(path)
        try:
            os.makedirs(folder, exist_ok=True)
            # Beside the file, so that it takes its place in one step; a name without the ending that grub-mkconfig looks for.
            handle, scratch = tempfile.mkstemp(prefix=".attested-ai-", dir=folder)
            with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            if not os.path.exists(path):
                os.chmod(scratch, 0o644)
            module.atomic_move(scratch, path)
            settle(folder)
        except OSError as error:
            raise not_written(path, error) from None
        finally:
            if scratch and os.path.exists(scratch):
                os.unlink(scratch)

    return System(
        read=read, listdir=listdir, write=write, remove=remove, run=lambda argv: module.run_command(list(argv)),
        find=lambda name: module.get_bin_path(name, opt_dirs=["/usr/sbin", "/sbin"]),
    )  # fmt: skip


def main() -> NoReturn:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    options, present = module.params, module.params["state"] == "present"
    module.run_command_environ_update = {"LANG": "C", "LC_ALL": "C"}
    try:
        system = system_of(module)
        wanted = wish(options["owner"], options["present"] if present else (), options["absent"] if present else ())
        plan, apply = loader_of(system)
        change = plan(system, wanted, present)
        if change.needed and not module.check_mode:
            apply(system, wanted, present)
        module.exit_json(
            changed=change.needed, loader=change.loader, reboot_required=change.reboot_required,
            running=shown(system.read("/proc/cmdline") or "").strip(), next_kernel=change.next_kernel, running_kernel=os.uname().release,
            diff={"before": shown(change.before), "after": shown(change.after), "before_header": change.loader, "after_header": change.loader},
        )  # fmt: skip
    except AttestedError as error:
        module.fail_json(msg=str(error), code=error.code)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the error numbers of configfs-tsm mean to the person who has to do something about them."""

from __future__ import annotations

import errno

from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError

BUSY = (errno.EBUSY, errno.EAGAIN, errno.EINTR)
_MODULES_HINT = (
    "In a confidential guest load the driver (modprobe sev-guest, tdx-guest or arm-cca-guest; on Ubuntu it may need the package "
    "linux-modules-extra-$(uname -r)); anywhere else there is no evidence to collect"
)


class TryAgain(Exception):
    """The attempt failed in a way that a fresh entry may cure."""

    def __init__(self, error: CollectError) -> None:
        super().__init__(str(error))
        self.error = error


def mkdir_failure(error: OSError, path: str, configfs: str, mounted: bool) -> Exception:
    """``configfs`` is where configfs belongs, ``mounted`` whether it is there."""
    number = error.errno
    if number == errno.ENXIO:
        return CollectError("the kernel has no provider of TEE reports", where=path, fix=_MODULES_HINT, code="not-a-tee")
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return _permission(error, path)
    if number in (errno.ENOENT, errno.ENOTDIR):
        if not mounted:
            fix = "mount -t configfs none /sys/kernel/config. %s" % _MODULES_HINT
            return CollectError("configfs is not mounted", where=configfs, fix=fix, code="no-configfs")
        return CollectError("the kernel offers no TEE reports here", where=path, fix=_MODULES_HINT, code="not-a-tee")
    if number in BUSY or number == errno.EEXIST:
        return TryAgain(_busy(path))
    return CollectError("the entry cannot be made (%s)" % error.strerror, where=path, code="provider-error")


def place(entry: str, name: str = "") -> str:
    """Where something failed, for a person: the entry's random name says nothing, and the entry is gone when it is read."""
    path = entry.rpartition("/")[0]
    return "%s (%s)" % (path, name) if name else path


def outblob_failure(error: OSError, entry: str, provider: str) -> Exception:
    where = place(entry, "outblob")
    if error.errno == errno.EINVAL:
        return CollectError("the provider %s refused the request" % provider, where=where, fix="Check privlevel", code="provider-refused")
    if error.errno == errno.EFBIG:
        return CollectError("the report is too large for this kernel", where=where, fix="Use a newer kernel", code="too-large")
    if error.errno == errno.ETIMEDOUT:
        fix = "Check that the host's quote generation service answers" if provider == "tdx_guest" else "Try later: the host delays guest requests"
        return CollectError("the provider %s did not answer in time" % provider, where=where, fix=fix, code="provider-timeout")
    if error.errno == errno.ENOTTY:
        # The SEV driver gives up its message key after an error of the host, and only a reboot brings it back.
        return CollectError("the provider %s takes no requests any more" % provider, where=where, fix="Reboot the guest", code="provider-error")
    return attribute_failure(error, entry, "outblob")


def attribute_failure(error: OSError, entry: str, name: str) -> Exception:
    where = place(entry, name)
    if error.errno in BUSY:
        return TryAgain(_busy(where))
    if error.errno in (errno.EACCES, errno.EPERM):
        return _permission(error, where)
    return CollectError("the kernel reports %s" % error.strerror, where=where, fix="Look for the driver's error in dmesg", code="provider-error")


def _permission(error: OSError, where: str) -> CollectError:
    fix = "Run as root (become: true), outside an unprivileged container"
    return CollectError("no permission (%s)" % error.strerror, where=where, fix=fix, code="no-permission")


def _busy(where: str) -> CollectError:
    return CollectError("the provider is busy", where=where, fix="Try again later", code="provider-busy")

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A disk that the host gives to a guest without a login: a block device, in tests a file. Whoever owns it can change it at any moment."""

from __future__ import annotations

import os

from ansible_collections.attested.ai.plugins.module_utils.training.failure import TrainingError

BLOCK = 512


def bad(what: str, where: str, fix: str = "") -> TrainingError:
    return TrainingError(what, where=where, fix=fix, code="training-volume")


class HostDisk:
    """Opened, and looked at once. Raises TrainingError."""

    def __init__(self, path: str, flags: int) -> None:
        self.where = path
        try:
            self._disk = os.open(path, flags | os.O_CLOEXEC)
        except OSError as error:
            raise bad("it cannot be opened (%s)" % error.strerror, path, "Give the guest a disk with this serial number") from None
        try:
            self._size = os.lseek(self._disk, 0, os.SEEK_END)
            self._look()
        except OSError as error:
            self.close()
            raise bad("it cannot be read (%s)" % error.strerror, path) from None
        except BaseException:
            self.close()
            raise

    def _look(self) -> None:
        """What has to be so from the beginning. Raises TrainingError, OSError."""
        raise NotImplementedError

    def close(self) -> None:
        os.close(self._disk)

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The exceptions of the core. Modules and action plugins turn them into one line for the user."""

from __future__ import annotations


class AttestedError(Exception):
    """Base of everything the core raises on purpose.

    ``what`` says what is wrong, ``where`` names the file, item or field, ``fix`` the next step.
    ``code`` is stable, for programs; it defaults to the class's own.
    """

    default_code = "error"

    def __init__(self, what: str, where: str = "", fix: str = "", code: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix
        self.code = code or self.default_code

    def __str__(self) -> str:
        text = "%s: %s" % (self.where, self.what) if self.where else self.what
        return "%s. %s" % (text.rstrip("."), self.fix) if self.fix else text


class FormatError(AttestedError):
    """Bytes or a document that do not have the form they must have."""

    default_code = "format"


class PolicyError(AttestedError):
    """A policy or a reference-value file that cannot be used."""

    default_code = "policy-invalid"


class EndorsementError(AttestedError):
    """Certificates, roots or revocation lists that are missing or unusable."""

    default_code = "endorsement"


class CollectError(AttestedError):
    """Evidence could not be collected on the guest."""

    default_code = "collect"


class HostError(AttestedError):
    """A host cannot be set up as it shall be."""

    default_code = "host"


class KeyReleaseError(AttestedError):
    """A key could not be wrapped, handed over or opened."""

    default_code = "key-release"


class ModelError(AttestedError):
    """A model cannot be encrypted or opened."""

    default_code = "model"


class LedgerError(AttestedError):
    """The key-release ledger is damaged, truncated or not writable."""

    default_code = "ledger"


class RedfishError(AttestedError):
    """A management controller does not answer, refuses, or says what cannot be used."""

    default_code = "redfish"


class DependencyError(AttestedError):
    """A Python library or a system facility is missing or too old."""

    default_code = "dependency"

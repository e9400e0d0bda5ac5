# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The directory of a gateway: its keys, its ledger, what it must not forget, and the bundle that is installed.

``gateway.key.pem``, ``card.json``, ``state.jws``, ``ledger/``, ``bundle-<digest>.tar`` and ``collateral-<digest>.tar``. It is made in one step and never
mended: a part that is missing later was lost or taken away, and nothing is released until all of it is restored.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import typing as t
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from ansible_collections.attested.ai.plugins.module_utils.edge.bundle import BUNDLE_MAX, COLLATERAL, COLLATERAL_MAX, Bundle, check_name, read_bundle
from ansible_collections.attested.ai.plugins.module_utils.edge.documents import Card, Report, State
from ansible_collections.attested.ai.plugins.module_utils.edge.limits import Standing, mark, standing
from ansible_collections.attested.ai.plugins.module_utils.errors import KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.formats import jcs
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import ledger
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.counter import Counter
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import jwk_thumbprint, public_jwk
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import replace_file, sync_directory
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.signingkey import create_signing_key, load_signing_key
from ansible_collections.attested.ai.plugins.plugin_utils.edge_files import make_directory, read_file
from ansible_collections.attested.ai.plugins.plugin_utils.release_records import COUNTERS, KEY, LEDGER, ReleaseRecords

GATEWAY_KEY, CARD, STATE, LOCK, RECORDS = "gateway.key.pem", "card.json", "state.jws", ".lock", "ledger"
_LOST = "Restore all of the gateway's directory from one backup, or remove it, prepare it anew and bring its new card to the centre"
_SMALL = 1 << 16


def now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass(frozen=True)
class Found:
    """A gateway as it stands. ``bundle`` is None before the first one is installed."""

    state: State
    report: ledger.LedgerReport
    bundle: Bundle | None

    def standing(self, at: datetime) -> Standing:
        """Raises KeyReleaseError (edge-none) where nothing is installed."""
        if self.bundle is None:
            raise KeyReleaseError("no bundle is installed", where=self.state.gateway, fix="Install one: edge_bundle with state installed", code="edge-none")
        return standing(self.bundle, at, self.state.newest, self.report.entries)


class Gateway:
    """One gateway's directory. Whoever changes it holds ``locked``."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.records = os.path.join(root, RECORDS)
        self.ledger = os.path.join(self.records, LEDGER)

    def prepare(self, name: str, check: bool) -> tuple[Card, bool]:
        """(card, whether it was made). Raises KeyReleaseError if there is half a gateway, or another one."""
        check_name(name)
        # An empty directory, which somebody made for it, is none yet.
        if os.path.lexists(self.root) and not (os.path.isdir(self.root) and not os.listdir(self.root)):
            card = self.card()
            if card.name != name:
                raise KeyReleaseError("it is the directory of %s" % card.name, where=self.root, fix="Give another directory", code="edge-other-gateway")
            self.found(None)
            return card, False
        if check:
            return Card(name, {}, {}), True
        partial = "%s.%s.new" % (self.root, os.urandom(6).hex())
        made = Gateway(partial)
        try:
            make_directory(partial)
            key = create_signing_key(os.path.join(partial, GATEWAY_KEY))
            # It makes the ledger's key and the counters.
            ReleaseRecords(made.records)
            replace_file(os.path.join(partial, LOCK), b"")
            ledger_key = load_signing_key(os.path.join(made.records, KEY))
            card = Card(name, public_jwk(key), public_jwk(ledger_key))
            replace_file(os.path.join(partial, CARD), jcs.canonicalize(card.to_dict()) + b"\n")
            made.remember(State(name, 0, ledger.ZERO, now().replace(microsecond=0), 0, ledger.ZERO))
            os.rename(partial, self.root)
            sync_directory(os.path.dirname(self.root) or ".")
        except OSError as error:
            raise KeyReleaseError("it cannot be made (%s)" % (error.strerror or error), where=self.root, code="edge-io") from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return card, True

    def card(self) -> Card:
        path = os.path.join(self.root, CARD)
        return Card.parse(self._part(CARD), path)

    def key(self) -> t.Any:
        return load_signing_key(os.path.join(self.root, GATEWAY_KEY))

    def remember(self, state: State) -> None:
        try:
            replace_file(os.path.join(self.root, STATE), state.seal(self._ledger_key()))
        except OSError as error:
            raise KeyReleaseError("it cannot be written (%s)" % (error.strerror or error), where=os.path.join(self.root, STATE), code="edge-io") from None

    @contextmanager
    def locked(self, check: bool = False) -> t.Iterator[None]:
        """Alone with the directory; what a writer left undone in the ledger is settled first, but in check mode. The lock ends with the process."""
        try:
            descriptor = os.open(os.path.join(self.root, LOCK), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise KeyReleaseError("there is no gateway (%s)" % error.strerror, where=self.root, fix="Make one: edge_bundle with state prepared",
                                  code="edge-none") from None  # fmt: skip
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not check and os.path.exists(self.ledger):
                ledger.settle(self.ledger, self._ledger_key())
            yield
        finally:
            os.close(descriptor)

    def found(self, signer: t.Mapping[str, t.Any] | None) -> Found:
        """Read and verify all of it, the bundle by its pinned signer (without one it is left unread). Raises AttestedError."""
        state = State.open(self._part(STATE), public_jwk(self._ledger_key()), os.path.join(self.root, STATE))
        report = self._verified(state)
        if signer is None or state.sequence == 0:
            return Found(state, report, None)
        name = "bundle-%s.tar" % state.bundle_sha256
        data = self._part(name, BUNDLE_MAX)
        if hashlib.sha256(data).hexdigest() != state.bundle_sha256:
            raise KeyReleaseError("it is not the file that was installed", where=os.path.join(self.root, name), fix="Install the bundle again",
                                  code="edge-changed")  # fmt: skip
        bundle = read_bundle(data, signer, os.path.join(self.root, name))
        self.check_owner(bundle, state)
        collateral = bundle.files.get(COLLATERAL)
        if collateral is not None and self._part(self.collateral_name(state.bundle_sha256), BUNDLE_MAX) != collateral:
            raise KeyReleaseError("it is not that of the bundle", where=os.path.join(self.root, self.collateral_name(state.bundle_sha256)),
                                  fix="Install the bundle again", code="edge-changed")  # fmt: skip
        if state.sequence != bundle.sequence:
            raise KeyReleaseError("bundle and state differ in their number", where=self.root, fix=_LOST, code="edge-state-damaged")
        return Found(state, report, bundle)

    def check_owner(self, bundle: Bundle, state: State) -> None:
        """Raise KeyReleaseError (edge-other-gateway) unless the bundle was made for this gateway and its keys."""
        mine = (state.gateway, jwk_thumbprint(public_jwk(self.key())), jwk_thumbprint(public_jwk(self._ledger_key())))
        if (bundle.gateway, bundle.gateway_key, bundle.ledger_key) != mine:
            what = "it was made for %s" % (bundle.gateway if bundle.gateway != mine[0] else "a gateway of this name with other keys")
            raise KeyReleaseError(what, where="edge bundle %d" % bundle.sequence, fix="Have one made with the card of %s" % mine[0], code="edge-other-gateway")

    def see(self, found: Found, at: datetime) -> Found:
        """Remember that this time was seen. The caller holds the lock."""
        if at <= found.state.newest:
            return found
        seen = self.at_head(replace(found.state, newest=at.replace(microsecond=0)), found.report)
        self.remember(seen)
        return replace(found, state=seen)

    def at_head(self, state: State, report: ledger.LedgerReport) -> State:
        return replace(state, ledger_seq=report.count, ledger_hash=report.head)

    def install(self, data: bytes, state: State) -> None:
        """Put the files of a bundle there; ``state``, which names them, is what makes them count, and comes last. The caller holds the lock."""
        collateral = read_tar_member(data)
        names = ["bundle-%s.tar" % state.bundle_sha256]
        try:
            replace_file(os.path.join(self.root, names[0]), data)
            if collateral is not None:
                names.append(self.collateral_name(state.bundle_sha256))
                replace_file(os.path.join(self.root, names[1]), collateral)
        except OSError as error:
            raise KeyReleaseError("it cannot be written (%s)" % (error.strerror or error), where=self.root, code="edge-io") from None
        self.remember(state)
        for name in os.listdir(self.root):
            if name.startswith(("bundle-", "collateral-")) and name not in names:
                with suppress(OSError):
                    os.unlink(os.path.join(self.root, name))

    def collateral_name(self, digest: str) -> str:
        return "collateral-%s.tar" % digest

    def export(self, found: Found, since: int, at: datetime) -> bytes:
        """The lines of the ledger after entry ``since``, with its head, signed. The caller holds the lock. Raises KeyReleaseError."""
        if not 0 <= since <= found.report.count:
            raise KeyReleaseError("the ledger has %d entries" % found.report.count, where="since", code="edge-since")
        lines, head = b"", b""
        if found.report.count:
            lines = b"".join(read_file(self.ledger, 1 << 30, "ledger").splitlines(keepends=True)[since:])
            head = read_file(self.ledger + ".head", _SMALL, "ledger head")
        if len(lines) > COLLATERAL_MAX:
            raise KeyReleaseError("%d bytes follow entry %d, at most %d fit into a report" % (len(lines), since, COLLATERAL_MAX), where=self.ledger,
                                  fix="Carry the ledger itself to the centre and verify it there with key_ledger", code="edge-since")  # fmt: skip
        return Report(found.state.gateway, at, found.state.sequence, since, lines, head).seal(self._ledger_key())

    def _verified(self, state: State) -> ledger.LedgerReport:
        where = self.ledger
        if not os.path.exists(os.path.join(self.records, COUNTERS)):
            raise KeyReleaseError("it is gone", where=os.path.join(self.records, COUNTERS), fix=_LOST, code="edge-counter-lost")
        if not os.path.exists(where):
            if state.ledger_seq or os.path.exists(where + ".head"):
                raise KeyReleaseError("the ledger, which counts the releases, is gone: it had at least %d entries" % state.ledger_seq, where=where, fix=_LOST,
                                      code="edge-counter-lost")  # fmt: skip
            return ledger.LedgerReport((), 0, ledger.ZERO)
        report = ledger.verify(where, public_jwk(self._ledger_key()))
        seq = state.ledger_seq
        if seq and (seq > report.count or report.entries[seq - 1]["hash"] != state.ledger_hash):
            raise KeyReleaseError("the ledger, which counts the releases, was put back: entry %d as it was known is not in it" % seq, where=where, fix=_LOST,
                                  code="edge-counter-rolled-back")  # fmt: skip
        for entry in report.entries:
            if any(reason.startswith(mark(state.gateway, 0)[:-1]) and _number(reason) > state.sequence for reason in entry["reasons"]):
                raise KeyReleaseError("entry %d was released under a later bundle than the state knows: the state was put back" % entry["seq"],
                                      where=os.path.join(self.root, STATE), fix=_LOST, code="edge-state-rolled-back")  # fmt: skip
        return report

    def _ledger_key(self) -> t.Any:
        return load_signing_key(os.path.join(self.records, KEY))

    def _part(self, name: str, maximum: int = _SMALL) -> bytes:
        path = os.path.join(self.root, name)
        if not os.path.isdir(self.root):
            raise KeyReleaseError("there is no gateway", where=self.root, fix="Make one: edge_bundle with state prepared", code="edge-none")
        if not os.path.lexists(path):
            raise KeyReleaseError("it is gone", where=path, fix=_LOST, code="edge-state-lost")
        return read_file(path, maximum, "gateway")


class GatewayRecords(ReleaseRecords):
    """The gateway's ledger, which also counts: a release is judged and written under one lock, and only then handed over."""

    def __init__(self, gateway: Gateway, signer: t.Mapping[str, t.Any], besides: Counter | None) -> None:
        super().__init__(gateway.records, besides=besides)
        self._gateway, self._signer = gateway, signer
        self.last: Standing | None = None

    def append(self, entry: ledger.Entry) -> dict[str, t.Any]:
        with self._gateway.locked():
            at = now()
            found = self._gateway.see(self._gateway.found(self._signer), at)
            current = found.standing(at)
            if entry.decision == "released":
                current.refuse(entry.model_id)
                bundle = current.bundle
                entry = replace(entry, reasons=(*entry.reasons, mark(bundle.gateway, bundle.sequence)))
            told = super().append(entry)
            # A power cut before this line: the ledger counts, and the state is behind it, which it may be.
            self._gateway.remember(replace(found.state, ledger_seq=told["seq"], ledger_hash=told["hash"]))
            self.last = replace(current, used={**current.used, entry.model_id: current.used.get(entry.model_id, 0) + (entry.decision == "released")})
        return told


def read_tar_member(data: bytes) -> bytes | None:
    from ansible_collections.attested.ai.plugins.module_utils.endorsements.bundle import split

    return dict(split(data)).get(COLLATERAL)


def _number(reason: str) -> int:
    try:
        return int(reason.rpartition(" ")[2])
    except ValueError:
        return 0

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""edge_report: carry what a gateway released back to the centre."""

from __future__ import annotations

import os
import typing as t
from contextlib import suppress

from ansible.utils.display import Display

from ansible_collections.attested.ai.plugins.module_utils.edge.documents import REPORT_MAX, Report
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import ledger
from ansible_collections.attested.ai.plugins.plugin_utils.controller_action import ControllerAction
from ansible_collections.attested.ai.plugins.plugin_utils.edge_centre import Centre, findings
from ansible_collections.attested.ai.plugins.plugin_utils.edge_files import read_file, write_file
from ansible_collections.attested.ai.plugins.plugin_utils.edge_gateway import Gateway, now
from ansible_collections.attested.ai.plugins.plugin_utils.public_key import public_key

EXPORTED, RECEIVED = "exported", "received"
ARGUMENT_SPEC: dict[str, dict[str, t.Any]] = {
    "state": {"type": "str", "required": True, "choices": [EXPORTED, RECEIVED]},
    "gateway": {"type": "path"},
    "signer": {"type": "raw"},
    "since": {"type": "int"},
    "centre": {"type": "path"},
    "name": {"type": "str"},
    "report": {"type": "path", "required": True},
}
REQUIRED: t.Final = [("state", EXPORTED, ["gateway", "signer"]), ("state", RECEIVED, ["centre", "name"])]
DISPLAY = Display()


class ActionModule(ControllerAction):
    _supports_check_mode = True
    argument_spec = ARGUMENT_SPEC
    rules: t.ClassVar[dict[str, t.Any]] = {"required_if": REQUIRED}

    def work(self, options: dict[str, t.Any]) -> dict[str, t.Any]:
        return getattr(self, "_" + options["state"])(options, bool(self._task.check_mode))

    def _exported(self, options: t.Mapping[str, t.Any], check: bool) -> dict[str, t.Any]:
        gateway, dest = Gateway(self.local(options["gateway"])), self.local(options["report"])
        with gateway.locked(check):
            found = gateway.found(public_key(options["signer"], self))
            known = 0 if found.bundle is None else found.bundle.acknowledged[0]
            since = known if options["since"] is None else options["since"]
            data = gateway.export(found, since, now().replace(microsecond=0))
            public = gateway.card().ledger_key
        fresh = Report.open(data, public, dest)
        same = False
        with suppress(AttestedError):
            there = Report.open(read_file(dest, REPORT_MAX, "report"), public, dest)
            same = (there.start, there.lines, there.head, there.sequence) == (fresh.start, fresh.lines, fresh.head, fresh.sequence)
        if not same and not check:
            write_file(dest, data)
        return {"changed": not same, "since": since, "count": found.report.count - since, "head": found.report.head}

    def _received(self, options: t.Mapping[str, t.Any], check: bool) -> dict[str, t.Any]:
        centre, path = Centre(self.local(options["centre"]), options["name"]), self.local(options["report"])
        data = read_file(path, REPORT_MAX, "report")
        with centre.locked(check):
            record = centre.record()
            report = Report.open(data, record.card.ledger_key, path)
            if report.gateway != centre.name:
                raise KeyReleaseError("it is of %s" % report.gateway, where=path, fix="Correct name", code="edge-other-gateway")
            after, entries = centre.receive(report, record, check)
            changed = (after.seq, after.hash) != (record.seq, record.hash)
            if changed and not check:
                centre.remember(after)
            # In check mode, the copy is as before: what is new is judged by itself.
            held = ledger.verify(centre.ledger, record.card.ledger_key).entries if after.seq and os.path.exists(centre.ledger) else entries
        found = findings(record, held)
        for finding in found:
            DISPLAY.warning("gateway %s, %s: %s" % (centre.name, finding["code"], finding["detail"]))
        return {"changed": changed, "entries": entries, "count": after.seq, "head": after.hash, "findings": found, "sequence": report.sequence,
                "reported_at": after.reported_at}  # fmt: skip

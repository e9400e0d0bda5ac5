# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A platform's registration, from the controller: the manifest is here and there before anything uses it up, and every step is noted before the next.

Whatever ends a run, the next one finds the manifest, knows what was chosen, and goes on with what is not done.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import secrets
import time
import typing as t
from dataclasses import replace

from ansible_collections.attested.ai.plugins.module_utils.errors import HostError
from ansible_collections.attested.ai.plugins.module_utils.target.quoting import decision, mpa_log, pckid, record, services
from ansible_collections.attested.ai.plugins.module_utils.target.quoting.https import make_opener
from ansible_collections.attested.ai.plugins.module_utils.target.quoting.machine import blinded
from ansible_collections.attested.ai.plugins.plugin_utils.registration_store import Store

# Takes one step on the machine: its name and further arguments. Raises AttestedError.
Step = t.Callable[..., t.Mapping[str, t.Any]]


class Registration:
    """``options`` are those of the module, with paths on the controller made absolute. ``changed`` and ``files`` are true even after a failure."""

    def __init__(
        self,
        step: Step,
        store: Store,
        options: t.Mapping[str, t.Any],
        host: str,
        tell: t.Callable[[str], None],
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self._step, self._store, self._options, self._host, self._tell, self._sleep = step, store, options, host, tell, sleep
        self.changed = False
        self.files: dict[str, str] = {}
        self._here: record.Record | None = None
        self._there: record.Record | None = None

    def bring(self, check_mode: bool) -> dict[str, t.Any]:
        found, self._here = self._look()
        self._there = self._store.record()
        before = record.merged(self._here, self._there, self._options["variant"] if self._options["variant_confirm"] == self._host else "")
        given = self._given()
        wish = decision.Wish(
            self._options["variant"], self._host, self._options["manifest_confirm"] or "", self._options["variant_confirm"] or "",
            self._options["reregister_ok"], pckid.digest(given) if given is not None else "",
        )  # fmt: skip
        plan = decision.decide(found, before, wish)
        if check_mode:
            return self._planned(plan, before)
        if wish.variant != decision.NONE:
            for digest in dict.fromkeys((found.manifest, plan.record.manifest if plan.record else "")):
                if digest:
                    self._keep(digest, found, given)
        if plan.refusal is not None:
            kept = self.files.get("manifest")
            raise HostError(plan.refusal.what, plan.refusal.where, plan.refusal.fix + (f". The manifest is kept in {kept}" if kept else ""), plan.refusal.code)
        waits, now = "", before
        if plan.record is not None:
            self._note(plan.record)
            now, waits = self._act(plan.record, plan.acts)
        if self.changed:
            found, _here = self._look()
        verdict, why = decision.verdict_of(found, now)
        return self._result(verdict, why, found, before, now, waits)

    def _look(self) -> tuple[decision.Found, record.Record | None]:
        answer = self._step("look")
        text = answer.get("record")
        found = _found(answer.get("found"))
        return found, None if text is None else record.parse(str(text), f"the record on {self._host}")

    def _planned(self, plan: decision.Plan, before: record.Record | None) -> dict[str, t.Any]:
        """Check mode: what cannot be taken back is never begun, so that a missing confirmation is told and is no failure."""
        if plan.refusal is not None and plan.refusal.code not in ("confirm-needed", "reregistration-needed"):
            raise plan.refusal
        wanted = plan.record or before
        self.changed = plan.save or bool(plan.acts) or wanted != before or self._here != self._there or self._collateral_due(wanted) is not None
        result = {"changed": self.changed, **plan.to_dict(), "refused": str(plan.refusal or "")}
        return {**result, "diff": _diff(before, wanted, plan.verdict, plan.acts)}

    def _keep(self, digest: str, found: decision.Found, given: bytes | None) -> None:
        name = self._store.manifest_name(digest)
        kept = self._store.manifest(digest)
        self.files["manifest"] = self._store.path(name)
        if kept is not None and digest in found.saved:
            return
        spare = kept if kept is not None else given if given is not None and pckid.digest(given) == digest else None
        key = secrets.token_bytes(32)
        answer = self._step("keep", digest=digest, key=key.hex(), given=None if spare is None else base64.b64encode(spare).decode("ascii"))
        data = _unblind(answer, key)
        if hashlib.sha256(data).hexdigest() != digest:
            raise HostError("what came from the machine is not the manifest that it named", where="registration", fix="Run it again", code="manifest-differs")
        self.changed = self._store.write(name, data) or self.changed or digest not in found.saved

    def _note(self, now: record.Record) -> None:
        """The controller first: it is the one that a machine's reinstallation leaves."""
        if self._there != now:
            self._store.write("record.json", now.text().encode("utf-8"))
            self._there, self.changed = now, True
        if self._here != now:
            self._step("record", content=now.text())
            self._here, self.changed = now, True

    def _act(self, now: record.Record, acts: t.Iterable[str]) -> tuple[record.Record, str]:
        """The record afterwards, and the act that somebody else must do first."""
        steps = {record.REGISTER: self._register, record.COLLECT: self._collect, record.DELIVER: self._deliver, record.LIST: self._list}
        for act in acts:
            self._tell(f"{self._host}: {act}")
            if act == record.AGENT:
                if not self._agent_done():
                    return now, act
            else:
                now = steps[act](now)
            self.changed = True
            now = now.with_done(act)
            self._note(now)
        due = self._collateral_due(now)
        if due is not None:
            self._give_collateral(due)
            self.changed = True
            now = replace(now, collateral=hashlib.sha256(due).hexdigest())
            self._note(now)
        return now, ""

    def _agent_done(self) -> bool:
        """Intel's agent runs beside us: the service is started by the role, or by a boot."""
        for attempt in range(max(1, self._options["agent_timeout"] // 2)):
            found, _here = self._look()
            if found.state == decision.COMPLETE or found.log.outcome in (mpa_log.REGISTERED, mpa_log.COMPLETE):
                return True
            if not self._options["agent_ran"]:
                return False
            if found.log.outcome == mpa_log.FAILED and attempt:
                break
            self._sleep(2)
        said = found.log.line or "it left no log"
        raise HostError(f"Intel's agent has not registered the platform: {said}", where=self._host, fix="Read its log; most often it is the proxy in "
                        "/etc/mpa_registration.conf. The manifest is kept", code="agent-failed")  # fmt: skip

    def _register(self, now: record.Record) -> record.Record:
        if self._options["send_from"] == "controller":
            ppid = services.register_manifest(self._opener("ca_path", True), self._options["service_url"], self._manifest(now))
        else:
            ppid = str(self._step("register", digest=now.manifest, **self._service("service_url", "ca_path", True)).get("ppid"))
        return replace(now, ppid=ppid)

    def _collect(self, now: record.Record) -> record.Record:
        key = secrets.token_bytes(32)
        data = _unblind(self._step("collect", digest=now.manifest, key=key.hex()), key)
        found = pckid.parse(data, f"PCKIDRetrievalTool's answer on {self._host}")
        name = f"pckid-{now.manifest or found.qe_id}.csv"
        self._store.write(name, data)
        self.files["csv"] = self._store.path(name)
        return replace(now, identity=found.identity)

    def _platform(self, now: record.Record) -> dict[str, str]:
        name = f"pckid-{now.manifest or now.identity.get('qe_id', '')}.csv"
        data = self._store.read(name)
        if data is None:
            raise HostError(
                "it is missing", where=self._store.path(name), fix="Take collect out of done in both records, and run it again", code="controller-file"
            )
        return pckid.parse(data, self._store.path(name)).platform(self._manifest(now) if now.manifest else None)

    def _deliver(self, now: record.Record) -> record.Record:
        token = self._token("pccs_user_token")
        if self._options["send_from"] == "controller":
            services.deliver_platform(self._opener("pccs_ca_path", self._options["pccs_validate_certs"]), self._url(), self._platform(now), token)
        else:
            self._step("deliver", digest=now.manifest, token=token, **self._service("pccs_url", "pccs_ca_path", self._options["pccs_validate_certs"]))
        return now

    def _list(self, now: record.Record) -> record.Record:
        """What pcs-client-tool collect makes of the tool's files, for this one platform."""
        self._store.write("platform_list.json", (json.dumps([self._platform(now)]) + "\n").encode("ascii"))
        self.files["platform_list"] = self._store.path("platform_list.json")
        return now

    def _collateral_due(self, now: record.Record | None) -> bytes | None:
        path = self._options["collateral_file"]
        if not path or now is None or now.variant != "indirect_offline":
            return None
        data = _read(path, "collateral_file")
        services.check_collateral(data, path)
        return data if hashlib.sha256(data).hexdigest() != now.collateral else None

    def _give_collateral(self, data: bytes) -> None:
        token = self._token("pccs_admin_token")
        if self._options["send_from"] == "controller":
            services.put_collateral(self._opener("pccs_ca_path", self._options["pccs_validate_certs"]), self._url(), data, token)
        else:
            text = data.decode("utf-8", "replace")
            self._step("collateral", content=text, token=token, **self._service("pccs_url", "pccs_ca_path", self._options["pccs_validate_certs"]))

    def _manifest(self, now: record.Record) -> bytes:
        data = self._store.manifest(now.manifest)
        if data is None:
            raise HostError("the manifest is missing or damaged", where=self._store.path(self._store.manifest_name(now.manifest)), code="manifest-missing")
        return data

    def _given(self) -> bytes | None:
        """The manifest that a person saved: as it is in the firmware's request, or in PCKIDRetrievalTool's file."""
        path = self._options["manifest_file"]
        if not path:
            return None
        data = _read(path, "manifest_file")
        if b"," not in data[:2000]:
            return data
        manifest = pckid.parse(data, path).manifest
        if manifest is None:
            raise HostError("it has no sixth column, so no manifest", where=path, fix="Give the file of the tool's first run", code="pckid-invalid")
        return manifest

    def _service(self, url: str, ca: str, verify: bool) -> dict[str, t.Any]:
        if url == "pccs_url":
            self._url()
        return {"service_url": self._options[url], "ca_path": self._options[ca], "proxy": self._options["proxy"], "validate_certs": verify}

    def _url(self) -> str:
        if not self._options["pccs_url"]:
            raise HostError("pccs_url is missing", where="registration", fix="Give the address of the PCCS", code="registration-options")
        return str(self._options["pccs_url"])

    def _token(self, name: str) -> str:
        if not self._options[name]:
            raise HostError(f"{name} is missing", where="registration", fix="Give it from a vault", code="registration-options")
        return str(self._options[name])

    def _opener(self, ca: str, verify: bool) -> services.Opener:
        return make_opener(self._options[ca] or "", self._options["proxy"] or "", verify)

    def _result(self, verdict: str, why: str, found: decision.Found, before: record.Record | None, now: record.Record | None, waits: str) -> dict[str, t.Any]:
        result: dict[str, t.Any] = {
            "changed": self.changed,
            "verdict": verdict,
            "why": why,
            "acts": [],
            "refused": "",
            "waits_for": waits,
            "variant": now.variant if now else decision.NONE,
            "manifest": now.manifest if now else found.manifest,
            "identity": dict(now.identity) if now else dict(found.identity),
            "ppid": now.ppid if now else "",
            "files": self.files,
            "diff": _diff(before, now, verdict, ()),
        }
        return result


def _found(value: t.Any) -> decision.Found:
    """From what the machine's step returned. A machine that answers strangely is told so, and never believed half."""
    try:
        log = mpa_log.Run(str(value["log"]["outcome"]), str(value["log"]["line"]))
        agent = value["agent"] if value["agent"] in (None, True, False) else None
        identity = {str(name): str(text) for name, text in value["identity"].items()}
        return decision.Found(
            str(value["state"]), str(value["problem"]), agent, str(value["manifest"]), log, identity, tuple(str(digest) for digest in value["saved"])
        )
    except (TypeError, KeyError, AttributeError):
        raise HostError("the machine's answer is not understood", where="tdx_registration_step", code="step-answer") from None


def _unblind(answer: t.Mapping[str, t.Any], key: bytes) -> bytes:
    try:
        return blinded(base64.b64decode(str(answer.get("blinded")), validate=True), key)
    except (binascii.Error, ValueError):
        raise HostError("the machine's answer is not understood", where="tdx_registration_step", code="step-answer") from None


def _read(path: str, option: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(8 << 20)
    except OSError as error:
        raise HostError(f"it cannot be read ({error.strerror})", where=path, fix=f"Correct {option}", code="registration-options") from None


def _diff(before: record.Record | None, after: record.Record | None, verdict: str, acts: t.Iterable[str]) -> dict[str, str]:
    planned = "".join(f"to be done: {act}\n" for act in acts)
    return {"before": before.text() if before else "", "after": (after.text() if after else "") + planned, "before_header": "record", "after_header": verdict}

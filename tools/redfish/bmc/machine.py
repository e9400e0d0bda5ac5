# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of one machine: what is applied, what is pending, and what happens when it is reset. Knows nothing of HTTP."""

from __future__ import annotations

import threading

from .models import Attr, Closed, Model


class Refused(Exception):
    """A request that the machine does not carry out. ``status`` is for HTTP, the messages for people."""

    def __init__(self, status: int, *messages: str) -> None:
        super().__init__("; ".join(messages))
        self.status, self.messages = status, messages


class Machine:
    """``boot_looks``: how often somebody must look at the system before a boot is over. ``stubborn`` attributes are dropped by the firmware,
    ``deaf`` ones are accepted by the service and forgotten."""

    def __init__(self, model: Model, boot_looks: int = 2) -> None:
        self.model = model
        self.boot_looks = boot_looks
        self.attributes = {attr.name: attr for attr in model.attributes}
        self.current: dict[str, object] = {attr.name: attr.default for attr in model.attributes}
        self.pending: dict[str, object] = {}
        self.jobs: list[dict[str, object]] = []
        self.power, self.resets, self.version = "On", 0, 0
        self.booting = 0
        self.stubborn: set[str] = set()
        self.deaf: set[str] = set()
        self.lock = threading.RLock()

    def holds(self, rule: Closed) -> bool:
        return (self.current.get(rule.parent) == rule.value) == (rule.condition == "EQU")

    def closed(self, attr: Attr) -> str:
        return "ReadOnly" if attr.stuck else next((rule.property for rule in attr.closed if self.holds(rule)), "")

    def shown(self) -> dict[str, object]:
        hidden = {attr.name for attr in self.model.attributes if self.closed(attr) == "Hidden"} if self.model.hides_attributes else set()
        return {name: value for name, value in self.current.items() if name not in hidden}

    def waiting(self) -> dict[str, object]:
        return {**self.shown(), **self.pending} if self.model.pending_shows_all else dict(self.pending)

    def write(self, values: dict[str, object], apply_time: str = "") -> str:
        """All or nothing. Returns the job that it made, if any."""
        with self.lock:
            if self.model.jobs and self.scheduled():
                raise Refused(400, "Pending configuration values are already committed, unable to perform another set operation.")
            problems = [problem for problem in (self._problem(name, value) for name, value in values.items()) if problem]
            if problems:
                raise Refused(400, *problems)
            # Where jobs apply settings, a request that names OnReset makes one even if the service does not offer that.
            if apply_time and apply_time not in self.model.apply_times and not (self.model.jobs and apply_time == "OnReset"):
                raise Refused(400, f"The value {apply_time} for ApplyTime is not in the list of acceptable values.")
            self.pending.update({name: value for name, value in values.items() if name not in self.deaf})
            self.pending = {name: value for name, value in self.pending.items() if self.current[name] != value}
            self.version += 1
            job = self.schedule() if self.model.jobs and apply_time and self.pending else ""
            if apply_time == "Immediate":
                self.reset("GracefulRestart")
            return job

    def scheduled(self) -> list[dict[str, object]]:
        return [job for job in self.jobs if job["JobState"] == "Scheduled"]

    def schedule(self) -> str:
        with self.lock:
            if self.scheduled():
                raise Refused(400, "A configuration job already exists. Unable to create another configuration job until the existing job is completed.")
            if not self.pending:
                raise Refused(400, "No pending data present to create a Configuration job.")
            self.jobs.append({"Id": f"JID_{len(self.jobs) + 1:012d}", "JobType": "BIOSConfiguration", "JobState": "Scheduled"})
            return str(self.jobs[-1]["Id"])

    def reset(self, kind: str) -> None:
        with self.lock:
            if kind not in self.model.resets:
                raise Refused(400, f"The value {kind} for the parameter ResetType is not in the list of acceptable values.")
            self.resets += 1
            if kind == "ForceOff":
                self.power, self.booting = "Off", 0
                return
            self.power, self.booting = "On", self.boot_looks
            if not self.booting:
                self._boot()

    def look(self) -> None:
        """Somebody looks at the system; a boot goes on by that, so that tests need no clock."""
        with self.lock:
            if self.booting:
                self.booting -= 1
                if not self.booting:
                    self._boot()

    def _boot(self) -> None:
        if self.model.jobs and not self.scheduled():
            return
        taken = {name: value for name, value in self.pending.items() if name not in self.stubborn}
        self.current.update(taken)
        self.pending = {}
        self.version += 1
        for job in self.scheduled():
            job["JobState"] = "Completed"

    def _problem(self, name: str, value: object) -> str:
        attr = self.attributes.get(name)
        if attr is None or (self.closed(attr) == "Hidden" and self.model.hides_attributes):
            return f"The attribute {name} is not known."
        if self.closed(attr):
            return f"The attribute {name} is read-only ({self.closed(attr)})."
        if attr.kind == "Enumeration" and value not in attr.values:
            return f"The value {value!r} for {name} is not in the list of acceptable values."
        if attr.kind == "Integer":
            if not isinstance(value, int) or isinstance(value, bool):
                return f"The value {value!r} for {name} is of a different type than the property can accept."
            if not (attr.lower or 0) <= value <= (attr.upper or 1 << 31):
                return f"The value {value!r} for {name} is not in the range of acceptable values."
        return ""

    def registry(self, name: str) -> dict[str, object]:
        entries, rules = [], []
        for order, attr in enumerate(self.model.attributes):
            entry: dict[str, object] = {
                "AttributeName": attr.name,
                "DisplayName": attr.title,
                "Type": attr.kind,
                "DisplayOrder": order,
                "ReadOnly": attr.stuck,
                "Hidden": False,
                "ResetRequired": True,
            }
            if attr.values:
                entry["Value"] = [{"ValueName": value, "ValueDisplayName": value.replace(attr.name, "")} for value in attr.values]
            if attr.kind == "Integer":
                entry.update({"LowerBound": attr.lower, "UpperBound": attr.upper, "ScalarIncrement": 1})
            if self.model.registry_of_now and self.closed(attr):
                entry[self.closed(attr)] = True
            entries.append(entry)
            for rule in attr.closed if not self.model.registry_of_now else ():
                source = {"MapFromAttribute": rule.parent, "MapFromProperty": "CurrentValue", "MapFromCondition": rule.condition, "MapFromValue": rule.value}
                target = {"MapToAttribute": attr.name, "MapToProperty": rule.property, "MapToValue": True}
                rules.append({"DependencyFor": attr.name, "Type": "Map", "Dependency": {"MapFrom": [source], **target}})
        return {
            "@odata.type": "#AttributeRegistry.v1_3_6.AttributeRegistry", "Id": name, "Name": "BIOS attribute registry", "Language": "en",
            "RegistryVersion": "1.0.0", "OwningEntity": self.model.vendor, "RegistryEntries": {"Attributes": entries, "Dependencies": rules, "Menus": []},
        }  # fmt: skip

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the kbs_* actions share: options, clients, and how changes at several KBS are planned, made and told."""

from __future__ import annotations

import contextlib
import typing as t
from dataclasses import dataclass

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.kbs import plan
from ansible_collections.attested.ai.plugins.module_utils.kbs.admin import AdminClient, open_admin
from ansible_collections.attested.ai.plugins.module_utils.kbs.problem import KbsError
from ansible_collections.attested.ai.plugins.module_utils.kbs.state import State, locked
from ansible_collections.attested.ai.plugins.module_utils.kbs.token import LIFETIME, LIFETIME_MAX, AdminKey, load_admin_key, load_token
from ansible_collections.attested.ai.plugins.module_utils.kbs.transport import Patience, Server, Transport, make_transport, patient
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs
from ansible_collections.attested.ai.plugins.plugin_utils.local_path import local_path

SERVER_SPEC: dict[str, dict[str, t.Any]] = {
    "url": {"type": "list", "elements": "str", "required": True},
    "ca_path": {"type": "path"},
    "server_name": {"type": "str", "default": ""},
    "pins": {"type": "list", "elements": "str", "default": []},
    "allow_http": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 20},
    "attempts": {"type": "int", "default": 3},
}
ADMIN_SPEC: dict[str, dict[str, t.Any]] = {
    # Paths and names: none of these is a secret itself.
    "admin_key": {"type": "path", "no_log": False},
    "admin_token": {"type": "path", "no_log": False},
    "issuer": {"type": "str"},
    "audience": {"type": "str", "default": "KBS"},
    "subject": {"type": "str", "default": "admin"},
    "role": {"type": "str", "default": "admin"},
    "token_lifetime": {"type": "int", "default": LIFETIME, "no_log": False},
    "allow_open_admin": {"type": "bool", "default": False},
}
STATE_SPEC: dict[str, dict[str, t.Any]] = {
    "state_path": {"type": "path", "required": True},
    "marker": {"type": "bool", "default": True},
    "force": {"type": "bool", "default": False},
}
ONE_ADMIN = [["admin_key", "admin_token"]]
WITH_ADMIN = {"admin_key": ["issuer"]}


@dataclass(frozen=True)
class Kbs:
    """One KBS of a task."""

    url: str
    transport: Transport
    admin: AdminClient | None

    @property
    def as_admin(self) -> AdminClient:
        if self.admin is None:
            raise KbsError("neither admin_key nor admin_token is given", where=self.url, code="kbs-admin-missing")
        return self.admin


def brokers(action: t.Any, options: t.Mapping[str, t.Any]) -> list[Kbs]:
    """A client for each address. Nothing is sent yet. Raises AttestedError."""
    inputs = Inputs.of_action(action)
    ca = ""
    if options["ca_path"] is not None:
        ca = inputs.read_text(options["ca_path"], "ca_path")
        if not ca.strip():
            # Without a text the authorities of the system would count.
            raise KbsError("it is empty", where=f"ca_path {options['ca_path']}", fix="Give PEM", code="kbs-ca")
    token = admin_token(action, options)
    found = []
    urls = [url.rstrip("/") for url in options["url"]]
    if not urls or len(set(urls)) != len(urls):
        raise KbsError("the same address occurs twice, or there is none", where="url", code="kbs-url")
    if not 1 <= options["timeout"] <= 600 or not 1 <= options["attempts"] <= 10:
        raise KbsError("timeout is 1 to 600 seconds, attempts are 1 to 10", code="kbs-options")
    for url in urls:
        server = Server(url, ca, options["server_name"], tuple(options["pins"]), float(options["timeout"]), options["allow_http"])
        transport = patient(make_transport(server), Patience(options["attempts"]))
        found.append(Kbs(url, transport, None if token is None else AdminClient(transport, token, url)))
    return found


def admin_token(action: t.Any, options: t.Mapping[str, t.Any]) -> t.Callable[[], str] | None:
    """What gives a token for each call; None if the task is to do without."""
    if options.get("admin_token"):
        path = local_path(action, options["admin_token"])
        load_token(path)
        return lambda: load_token(path)
    if not options.get("admin_key"):
        return None
    if not 10 <= options["token_lifetime"] <= LIFETIME_MAX:
        raise KbsError("%d is not between 10 and %d seconds" % (options["token_lifetime"], LIFETIME_MAX), where="token_lifetime", code="kbs-options")
    key = load_admin_key(local_path(action, options["admin_key"]))
    return AdminKey(key, options["issuer"], options["audience"], options["subject"], options["role"], options["token_lifetime"]).token


def refuse_open(kbs: t.Sequence[Kbs], allowed: bool) -> list[str]:
    """A KBS that lets everybody in as admin keeps nothing: nothing is stored there. Returns warnings."""
    lines = []
    for one in kbs:
        if not open_admin(one.transport, one.url):
            continue
        if not allowed:
            raise KbsError("it lets admins in without a token: everybody who reaches it reads and sets everything", where=one.url,
                           fix="Write [admin] into its configuration (a missing one is InsecureAllowAll); for a trial say allow_open_admin",
                           code="kbs-open-admin")
        lines.append(f"{one.url} lets admins in without a token: what it holds is not protected")
    return lines


def bring(
    kbs: t.Sequence[Kbs], wanted: t.Sequence[plan.Wanted], options: t.Mapping[str, t.Any], state_path: str, *,
    check_mode: bool, act: t.Callable[[AdminClient, plan.Change], bool],
) -> dict[str, t.Any]:  # fmt: skip
    """Plan for every KBS before anything is changed at one, then change one after the other. Raises AttestedError."""
    with _held(state_path, check_mode):
        state = State.read(state_path, create_key=not check_mode)
        forgotten = {one.url: plan.recognise(one.url, one.as_admin, state, options["marker"]) for one in kbs}
        changes = [
            change for one in kbs for change in plan.planned(one.url, wanted, state, forgotten[one.url], options["force"])
        ]
        before, after = plan.diff(changes)
        if not check_mode:
            clients = {one.url: one.as_admin for one in kbs}
            told: list[plan.Change] = []
            for one in kbs:
                mine = [change for change in changes if change.url == one.url]
                try:
                    if forgotten[one.url]:
                        plan.begin(one.url, one.as_admin, state, options["marker"])
                    told += plan.apply(mine, lambda change: act(clients[change.url], change), state)
                except AttestedError as error:
                    raise _half(error, told, changes) from None
            changes = told
        else:
            # Only the KBS knows whether something is there that we did not put there.
            changes = [change if change.action != plan.DELETE or change.before else _with_found(change) for change in changes]
    return {
        "changed": plan.changed(changes),
        "changes": [change.to_dict() for change in changes],
        "diff": {"before_header": "digests", "after_header": "digests", "before": before, "after": after},
    }


def _with_found(change: plan.Change) -> plan.Change:
    return plan.Change(**{**change.__dict__, "found": False})


def _held(path: str, check_mode: bool) -> t.Any:
    # Check mode leaves nothing behind, not even a lock.
    return contextlib.nullcontext() if check_mode else locked(path)


def _half(error: AttestedError, told: t.Sequence[plan.Change], changes: t.Sequence[plan.Change]) -> plan.HalfDone:
    inner = error.done if isinstance(error, plan.HalfDone) else ()
    done = [change for change in told if change.action != plan.NONE] + list(inner)
    places = {(change.url, change.wanted.kind, change.wanted.name) for change in (*told, *inner)}
    left = [
        change for change in changes if change.action != plan.NONE and (change.url, change.wanted.kind, change.wanted.name) not in places
    ]
    cause = error.cause if isinstance(error, plan.HalfDone) else error
    return plan.HalfDone(cause, done, left)


def told_failure(error: AttestedError) -> dict[str, t.Any]:
    """What a failed task returns: never more than was done."""
    result: dict[str, t.Any] = {"code": error.code}
    if isinstance(error, plan.HalfDone):
        result.update(changed=bool(error.done), changes=[change.to_dict() for change in error.done], not_changed=[change.to_dict() for change in error.left])
    return result

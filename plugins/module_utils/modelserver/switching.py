# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which instance of a model server serves: start a new one beside the old, change over when it is ready, and only then end the old one."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.keyrelease import session as sessions
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import replace_file
from ansible_collections.attested.ai.plugins.module_utils.modelserver import order as orders
from ansible_collections.attested.ai.plugins.module_utils.modelserver.failure import ServingError

# (exit status, standard output, standard error) of a command.
Runner = Callable[[Sequence[str]], Tuple[int, str, str]]
RUN = "/run/attested-model"
ORDERS = "orders"
CURRENT = "current"
_ACTIVE = ("active", "activating", "deactivating", "reloading")


@dataclass(frozen=True)
class Wish:
    """The options of the module."""

    name: str
    state: str = "present"
    instance: Optional[str] = None
    src: Optional[str] = None
    session: Optional[str] = None
    session_directory: str = "/run/attested-ai"
    dest: str = "/var/lib/attested-model/open"
    order: Optional[Mapping[str, Any]] = None
    directory: str = RUN

    def check(self) -> None:
        if not orders.NAME.match(self.name):
            raise ServingError("it is no name of small letters, digits and dashes", where="name", code="name")
        if self.state == "present" and not orders.INSTANCE.match(self.instance or ""):
            raise ServingError("16 hexadecimal digits were expected", where="instance", code="name")

    @property
    def home(self) -> str:
        return os.path.join(self.directory, self.name)

    def unit(self, instance: str) -> str:
        return "attested-model-%s@%s.service" % (self.name, instance)


def apply(wish: Wish, run: Runner, check_mode: bool) -> Dict[str, Any]:
    """The return values of the module. Raises AttestedError; then the instance that served before still does. Outside check mode the session is gone."""
    wish.check()
    try:
        return _apply(wish, run, check_mode)
    finally:
        if wish.session is not None and not check_mode:
            sessions.sweep_session(wish.session_directory, wish.session)


def _apply(wish: Wish, run: Runner, check_mode: bool) -> Dict[str, Any]:
    before, running = serving(wish, run), instances(wish, run)
    after = wish.instance if wish.state == "present" else None
    others = [one for one in running if one != after]
    changed = before != after or bool(others) or (wish.state == "absent" and os.path.lexists(os.path.join(wish.home, CURRENT)))
    result = {"changed": changed, "serving": after, "before": before, "ended": others,
              "diff": {"before": _view(before, running), "after": _view(after, [after] if after else [])}}  # fmt: skip
    if check_mode or not changed:
        return result
    if after is None:
        _absent(wish, run, running)
    else:
        if before != after:
            _begin(wish, run, after)
        _end(wish, run, others)
    return result


def serving(wish: Wish, run: Runner) -> Optional[str]:
    """The instance that clients reach: the one that the link names, if it is up."""
    try:
        name = os.path.basename(os.readlink(os.path.join(wish.home, CURRENT)))
    except OSError:
        return None
    if not orders.INSTANCE.match(name):
        return None
    return name if _show(wish, run, name, "ActiveState") == "active" else None


def instances(wish: Wish, run: Runner) -> List[str]:
    """Those that run, or are about to, or have not quite ended. Failed ones are nothing any more."""
    status, out, error = run(["systemctl", "list-units", "--all", "--plain", "--no-legend", "--full", wish.unit("*")])
    if status:
        raise ServingError("systemctl fails: %s" % error.strip()[:300], fix="systemd is needed", code="systemctl")
    found = []
    for line in out.splitlines():
        words = line.split()
        match = re.match(r"attested-model-%s@([0-9a-f]{16})\.service\Z" % re.escape(wish.name), words[0]) if len(words) >= 3 else None
        if match and words[2] in _ACTIVE:
            found.append(match.group(1))
    return sorted(found)


def _begin(wish: Wish, run: Runner, instance: str) -> None:
    if not wish.session or not wish.src or wish.order is None:
        raise ServingError("the model is not open yet, and session, src or order is not set", where=wish.name, fix="Give the session of model_release",
                           code="no-session")  # fmt: skip
    runtime = os.path.join(wish.home, instance)
    order = dict(wish.order, name=wish.name, src=wish.src, session=wish.session, session_directory=wish.session_directory, dest=wish.dest, runtime=runtime)
    # What the instance would refuse is refused here, while nothing has been started.
    orders.parse(order)
    place = os.path.join(wish.home, ORDERS, instance + ".json")
    try:
        os.makedirs(os.path.dirname(place), mode=0o755, exist_ok=True)
        replace_file(place, json.dumps(order, sort_keys=True).encode("ascii"))
    except OSError as error:
        raise ServingError("it cannot be written (%s)" % error.strerror, where=place, fix="Run as root (become: true)", code="order") from None
    unit = wish.unit(instance)
    run(["systemctl", "reset-failed", unit])
    status, _out, told = run(["systemctl", "start", unit])
    try:
        if status:
            # What the instance said of itself, or else what systemd did.
            why = _show(wish, run, instance, "StatusText") or told.strip() or _show(wish, run, instance, "Result")
            raise ServingError("%s does not serve: %s" % (unit, why[:1000].rstrip(". ")), where=wish.name, fix="See journalctl -u %s; %s" % (
                unit, _still(wish, run)), code="instance-failed")  # fmt: skip
        _look_from_outside(wish, unit)
        _point(wish, instance)
    except BaseException:
        run(["systemctl", "stop", unit])
        run(["systemctl", "reset-failed", unit])
        raise
    finally:
        _unlink(place)


def _look_from_outside(wish: Wish, unit: str) -> None:
    """The plaintext must be in the unit's own namespace: from here its place is an empty directory."""
    try:
        seen = os.listdir(wish.dest)
    except OSError as error:
        raise ServingError("it cannot be looked at (%s)" % error.strerror, where=wish.dest, code="not-private") from None
    if seen or os.path.ismount(wish.dest):
        raise ServingError("the opened model can be seen outside of %s" % unit, where=wish.dest, fix="Look for a drop-in that changes the unit",
                           code="not-private")  # fmt: skip


def _point(wish: Wish, instance: str) -> None:
    """From here on new connections reach this instance. In one step: there is no moment without one."""
    link = os.path.join(wish.home, CURRENT)
    partial = "%s.%d" % (link, os.getpid())
    try:
        os.symlink(instance, partial)
        os.replace(partial, link)
    except OSError as error:
        _unlink(partial)
        raise ServingError("it cannot be set (%s)" % error.strerror, where=link, code="switch") from None


def _end(wish: Wish, run: Runner, those: Sequence[str]) -> None:
    """Each ends what it has begun first; then its memory goes with it."""
    for instance in those:
        status, _out, error = run(["systemctl", "stop", wish.unit(instance)])
        if status:
            raise ServingError("%s does not stop: %s" % (wish.unit(instance), error.strip()[:300]), where=wish.name, fix="Stop it by hand", code="systemctl")


def _absent(wish: Wish, run: Runner, running: Sequence[str]) -> None:
    _unlink(os.path.join(wish.home, CURRENT))
    _end(wish, run, running)
    folder = os.path.join(wish.home, ORDERS)
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        _unlink(os.path.join(folder, name))


def _show(wish: Wish, run: Runner, instance: str, what: str) -> str:
    _status, out, _error = run(["systemctl", "show", "--value", "--property=" + what, wish.unit(instance)])
    return out.strip()


def _still(wish: Wish, run: Runner) -> str:
    before = serving(wish, run)
    return "%s is served as before" % before if before else "nothing is served"


def _view(serving_now: Optional[str], running: Sequence[str]) -> Dict[str, Any]:
    return {"serving": serving_now, "running": list(running)}


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass

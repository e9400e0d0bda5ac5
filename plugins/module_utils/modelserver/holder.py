# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One instance of a model server, as the main process of its unit.

It opens the model into a file system that exists in this unit's mount namespace only, starts the model server as a user without rights, carries requests
to it, starts it again when it falls over, and is the reason why the plaintext goes: with the last process of the unit the kernel frees its namespace and
every page in it, however the end came.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any, Dict, List, Mapping, Optional

from ansible_collections.attested.ai.plugins.module_utils.modelserver import accounts, notify, probing
from ansible_collections.attested.ai.plugins.module_utils.modelserver import order as orders
from ansible_collections.attested.ai.plugins.module_utils.modelserver.failure import ServingError
from ansible_collections.attested.ai.plugins.module_utils.modelserver.front import write_public
from ansible_collections.attested.ai.plugins.module_utils.modelserver.order import Order
from ansible_collections.attested.ai.plugins.module_utils.modelserver.relay import Relay
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import opening
from ansible_collections.attested.ai.plugins.module_utils.target import memory

MODEL, CREDENTIALS = "model", "credentials"
_POLL = 0.2
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TERM_SECONDS = 20.0


class Stop(Exception):
    """SIGTERM came."""


def run(path: str) -> int:
    """Open, serve, wait for the end. Raises AttestedError."""
    order = orders.load(path)
    memory.harden_process()
    signal.signal(signal.SIGTERM, _stop)
    try:
        return Holder(order).run()
    except Stop:
        return 0


def _stop(_number: int, _frame: Any) -> None:
    # Once: the end itself must not be interrupted.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Stop


class Holder:
    def __init__(self, order: Order) -> None:
        self._order = order
        self._process: Optional["subprocess.Popen[bytes]"] = None
        self._relay: Optional[Relay] = None

    def run(self) -> int:
        order = self._order
        require_private(order.dest)
        uid, gid = accounts.numbers(order.user)
        front_uid, front_gid = accounts.numbers(order.front_user)
        notify.tell("STATUS=Opens the model")
        opened = opening.run(opening.Order(
            dest=os.path.join(order.dest, MODEL), src=order.src, session=order.session, session_directory=order.session_directory, threads=order.threads,
            owner=str(uid), group=str(gid), mode="0400",
        ))  # fmt: skip
        try:
            hand_credentials(os.environ.get("CREDENTIALS_DIRECTORY", ""), os.path.join(order.dest, CREDENTIALS), uid, gid)
            self._start()
            notify.tell("STATUS=Waits for the model server")
            self._wait_ready()
            # Root's way in is the front's as well: nobody else may connect.
            self._relay = Relay(os.path.join(order.runtime, "model.sock"), ("127.0.0.1", order.port), front_uid, front_gid)
            self._relay.start()
            served = {name: opened[name] for name in ("model_id", "release", "manifest_sha256")}
            write_public(os.path.join(order.runtime, "served.json"), json.dumps(served, sort_keys=True).encode("ascii"))
            if order.copy == "drop_after_ready":
                memory.wipe_tree(os.path.join(order.dest, MODEL), overwrite=False)
            notify.tell("READY=1", "STATUS=Serves %s release %d" % (opened["model_id"], opened["release"]))
            self._supervise()
        except Stop:
            notify.tell("STOPPING=1")
            self._drain()
        finally:
            self._end()
            wipe_inside(order.dest)
        return 0

    def command(self) -> List[str]:
        order = self._order
        path = os.path.join(order.dest, MODEL, order.file) if order.file else os.path.join(order.dest, MODEL)
        places = {"path": path, "port": str(order.port), "name": order.name}
        return [fill(word, places) for word in order.command]

    def environment(self) -> Dict[str, str]:
        found = {"PATH": _PATH, "HOME": "/tmp", "LANG": "C.UTF-8", "USER": self._order.user, **self._order.env}
        credentials = os.path.join(self._order.dest, CREDENTIALS)
        if os.path.isdir(credentials):
            found["CREDENTIALS_DIRECTORY"] = credentials
        return found

    def _start(self) -> None:
        user, command = self._order.user, self.command()
        try:
            # A service's own program: there is no module whose run_command could start it.
            self._process = subprocess.Popen(  # pylint: disable=ansible-bad-function
                command, env=self.environment(), stdin=subprocess.DEVNULL, cwd="/tmp", start_new_session=True, preexec_fn=lambda: accounts.become(user)
            )
        except (OSError, subprocess.SubprocessError) as error:
            what = "it cannot be started (%s)" % (getattr(error, "strerror", None) or type(error).__name__)
            raise ServingError(what, where=command[0], fix="Install it on the guest, or correct model_server_command", code="runtime-start") from None

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + self._order.start_seconds
        while not probing.answers("127.0.0.1", self._order.port, self._order.probe):
            status = self._process.poll() if self._process else None
            if status is not None:
                raise ServingError("it ended with status %d before it answered" % status, where=self.command()[0],
                                   fix="See the journal of this unit", code="runtime-ended")  # fmt: skip
            if time.monotonic() > deadline:
                what = "it did not answer on port %d within %g seconds" % (self._order.port, self._order.start_seconds)
                raise ServingError(what, where=self.command()[0], fix="See the journal of this unit, or raise model_server_start_seconds", code="runtime-slow")
            time.sleep(_POLL)

    def _supervise(self) -> None:
        """Until the model server has fallen over once too often. Stop ends it in order."""
        left = 0 if self._order.copy == "drop_after_ready" else self._order.restarts
        while True:
            status = self._process.wait() if self._process else 0
            if left <= 0:
                raise ServingError("it ended with status %d, and is not started again" % status, where=self.command()[0],
                                   fix="See the journal of this unit; run the role again to open the model once more", code="runtime-ended")  # fmt: skip
            left -= 1
            notify.tell("STATUS=Starts the model server again")
            sys.stderr.write("attested-ai: the model server ended with status %d, it is started again\n" % status)
            sys.stderr.flush()
            time.sleep(1.0)
            self._start()
            self._wait_ready()
            notify.tell("STATUS=Serves again")

    def _drain(self) -> None:
        """New requests go elsewhere by now. Those that are under way may end."""
        if self._relay is None:
            return
        self._relay.close()
        deadline = time.monotonic() + self._order.drain_seconds
        while self._relay.active and time.monotonic() < deadline:
            time.sleep(_POLL)

    def _end(self) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(_TERM_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def require_private(path: str) -> None:
    """Is a memory file system mounted at exactly this place? Raises AttestedError.

    The unit mounts it for itself alone. That nobody else sees it cannot be told from in here; the module model_instance looks from outside.
    """
    if memory.require_memory(path).mount_point != os.path.realpath(path):
        raise ServingError("no file system of its own is mounted there", where=path, fix="Start this as the unit that the role made", code="not-private")


def hand_credentials(source: str, dest: str, uid: int, gid: int) -> None:
    """What systemd hands this unit goes on to the model server's user, in the memory that only this unit sees."""
    if not source or not os.path.isdir(source):
        return
    os.mkdir(dest, 0o700)
    for name in sorted(os.listdir(source)):
        with open(os.path.join(source, name), "rb") as stream:
            data = stream.read()
        place = os.path.join(dest, name)
        with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as stream:
            stream.write(data)
        os.chown(place, uid, gid)
    os.chown(dest, uid, gid)


def fill(word: str, places: Mapping[str, str]) -> str:
    """Replace {path}, {port} and {name}; all other braces stay, for arguments may be JSON."""
    for name, value in places.items():
        word = word.replace("{%s}" % name, value)
    return word


def wipe_inside(directory: str) -> None:
    """Remove what lies in it. The directory itself is a mount."""
    for name in sorted(os.listdir(directory)):
        memory.wipe_tree(os.path.join(directory, name), overwrite=False)

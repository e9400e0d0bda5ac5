# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The front as a service: opens its sockets as root, then splits. The half that talks to clients gives all rights away before it makes its keys."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import Any, Mapping, NoReturn, Optional

from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.modelserver import accounts, collector, notify
from ansible_collections.attested.ai.plugins.module_utils.modelserver.desk import Desk
from ansible_collections.attested.ai.plugins.module_utils.modelserver.failure import ServingError
from ansible_collections.attested.ai.plugins.module_utils.modelserver.identity import make_identity
from ansible_collections.attested.ai.plugins.module_utils.modelserver.metrics import Metrics
from ansible_collections.attested.ai.plugins.module_utils.modelserver.proxy import Front, MetricsServer
from ansible_collections.attested.ai.plugins.module_utils.modelserver.rate import Limiter
from ansible_collections.attested.ai.plugins.module_utils.modelserver.settings import Settings, load
from ansible_collections.attested.ai.plugins.module_utils.target import memory
from ansible_collections.attested.ai.plugins.module_utils.target.collect import collect_all

_CERTIFICATE_MAX = 1 << 16


def run(path: str) -> int:
    """Serve until SIGTERM. Raises AttestedError where it cannot begin."""
    settings = load(path)
    memory.harden_process()
    listener = listen(settings.address, settings.port)
    metrics = listen(settings.metrics_address, settings.metrics_port) if settings.metrics_port else None
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    child = os.fork()
    if child == 0:
        ours.close()
        _child(settings, listener, metrics, theirs)
    theirs.close()
    listener.close()
    if metrics is not None:
        metrics.close()
    # Where the other half is asked to end, this one ends with it: its socket closes.
    signal.signal(signal.SIGTERM, lambda *_: _ask_to_end(child))
    try:
        _attend(settings, ours)
    finally:
        status = _end(child)
    if not os.WIFEXITED(status) or os.WEXITSTATUS(status):
        raise ServingError("the part that talks to clients ended with status %d" % status, fix="See the journal of this unit", code="front-ended")
    return 0


def _ask_to_end(child: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGTERM)


def listen(address: str, port: int) -> socket.socket:
    """A listening socket. Raises ServingError."""
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        made.listen(128)
        return made
    except OSError as error:
        what = "nothing can listen there (%s)" % error.strerror
        raise ServingError(what, where="%s port %d" % (address, port), fix="Choose another address or port", code="listen") from None


def _attend(settings: Settings, channel: socket.socket) -> None:
    """Root's half: write the certificate that it is told of, say that all is ready, answer nonces."""
    try:
        told = collector.receive(channel, _CERTIFICATE_MAX)
    except (OSError, ValueError):
        return
    write_public(settings.certificate, str(told["certificate"]).encode("ascii"))
    jwk = {str(name): str(value) for name, value in dict(told["jwk"]).items()}

    def collect(nonce: str) -> Mapping[str, Any]:
        return collect_all(settings.request(nonce, settings.certificate, jwk)).document.to_dict()

    notify.tell("READY=1", "STATUS=Answers on %s port %d" % (settings.address, settings.port))
    collector.answer(channel, collect)


def _child(settings: Settings, listener: socket.socket, metrics: Optional[socket.socket], channel: socket.socket) -> NoReturn:
    status = 1
    try:
        # Until the end of this process, and never as root where a user is named.
        os.environ.pop("NOTIFY_SOCKET", None)
        if settings.user:
            accounts.become(settings.user)
        memory.harden_process()
        serve(settings, listener, metrics, channel)
        status = 0
    except AttestedError as error:
        sys.stderr.write("attested-ai: %s\n" % error)
    except Exception as error:  # noqa: BLE001 # a traceback may show what a request held
        sys.stderr.write("attested-ai: %s in the part that talks to clients\n" % type(error).__name__)
    finally:
        sys.stderr.flush()
        os._exit(status)


def serve(settings: Settings, listener: socket.socket, metrics_listener: Optional[socket.socket], channel: socket.socket) -> None:
    """The half that talks to clients."""
    identity = make_identity("attested.ai %s" % settings.name)
    collector.send(channel, {"certificate": identity.certificate_pem.decode("ascii"), "jwk": identity.jwk})
    desk = Desk(collector.Asking(channel).collect, lambda: secrets.token_bytes(32), time.monotonic, Limiter(settings.for_all, settings.for_each),
                settings.lifetime)  # fmt: skip
    metrics = Metrics()
    front = Front(listener, settings, identity, desk, metrics)
    # shutdown() waits for serve_forever(), which the signal handler interrupts: it must come from another thread.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=front.shutdown).start())
    if metrics_listener is not None:
        threading.Thread(target=MetricsServer(metrics_listener, metrics, front, settings.metrics_path).serve_forever, daemon=True).start()
    front.serve_forever(poll_interval=0.5)


def write_public(path: str, data: bytes) -> None:
    """Whole or not at all. The certificate is no secret."""
    directory = os.path.dirname(path)
    try:
        os.makedirs(directory, mode=0o755, exist_ok=True)
        partial = path + ".partial"
        with open(partial, "wb") as stream:
            stream.write(data)
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except OSError as error:
        raise ServingError("it cannot be written (%s)" % error.strerror, where=path, code="runtime-directory") from None


def _end(child: int) -> int:
    """Wait for the other half; one that does not end by itself is ended."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The order in which a guest opens a model with the key of a session, and the certainty that the session is swept afterwards."""

from __future__ import annotations

import grp
import os
import pwd
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.errors import ModelError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import session as sessions
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import artifact, download, image_open, tree
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import open as opener
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.progress import ProgressFile, Throttle
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import IMAGE_PROFILE, KSERVE
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.registry import RegistrySource
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.source import Directory
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.web import Web, WebSource
from ansible_collections.attested.ai.plugins.module_utils.target import memory

# chown(2) takes 32 bits, all of them set for "leave it".
_NO_ID = 2**32 - 1


@dataclass(frozen=True)
class Order:
    """The options of the module. ``session`` may be None when nothing has to be opened."""

    dest: str
    src: Optional[str] = None
    state: str = "present"
    session: Optional[str] = None
    session_directory: str = sessions.DEFAULT_DIRECTORY
    threads: Optional[int] = None
    owner: Optional[str] = None
    group: Optional[str] = None
    mode: str = "0400"
    image: Optional[str] = None
    urls: Optional[Mapping[str, str]] = field(default=None, repr=False)
    headers: Optional[Mapping[str, str]] = field(default=None, repr=False)
    redirect_hosts: Tuple[str, ...] = ()
    auth_file: Optional[str] = None
    ca_path: Optional[str] = None
    allow_http: bool = False
    timeout: int = 30
    minimum_rate: int = 16384

    @property
    def remote(self) -> bool:
        return "://" in str(self.src)

    def source(self) -> Any:
        """Where the ciphertext comes from. Raises ModelError."""
        if self.auth_file is not None and not str(self.src).startswith(artifact.REGISTRY):
            what = "auth_file is for a registry, and src is none"
            raise ModelError(what, where=str(self.src), fix="Omit it, or give docker://...; for servers of files there is headers", code="model-options")
        if artifact.is_local(str(self.src)):
            return artifact.ArtifactDirectory(str(self.src))
        if not self.remote:
            return Directory(self._path())
        web = Web(str(self.src), dict(self.urls or {}), dict(self.headers or {}), tuple(self.redirect_hosts), self.ca_path, self.allow_http, self.timeout,
                  self.minimum_rate)
        return RegistrySource(str(self.src), web, self.auth_file) if str(self.src).startswith(artifact.REGISTRY) else WebSource(web)

    def _path(self) -> str:
        return os.path.realpath(os.path.expanduser(os.path.expandvars(str(self.src))))

    def target(self) -> opener.Target:
        """With everything resolved. Raises ModelError on an unknown owner or group and on a mode that is none."""
        return opener.Target(
            src=str(self.src) if self.remote or artifact.is_local(str(self.src)) else self._path(),
            dest=_destination(self.dest),
            threads=self.threads or min(8, len(os.sched_getaffinity(0))),
            uid=_number(self.owner, "owner", lambda name: pwd.getpwnam(name).pw_uid),
            gid=_number(self.group, "group", lambda name: grp.getgrnam(name).gr_gid),
            mode=_mode(self.mode),
        )


def run(order: Order, check_mode: bool = False) -> Dict[str, Any]:
    """Bring ``dest`` into the state asked for, and return what the module returns. Outside check mode the session is gone afterwards."""
    try:
        return _absent(order, check_mode) if order.state == "absent" else _present(order, check_mode)
    finally:
        if order.session is not None and not check_mode:
            sessions.sweep_session(order.session_directory, order.session)


def _absent(order: Order, check_mode: bool) -> Dict[str, Any]:
    dest = _destination(order.dest)
    opener.require_ours(dest)
    left = bool(opener.left_behind(dest) or image_open.holders(dest) or image_open.links(dest))
    if not check_mode:
        image_open.close(dest)
        opener.wipe(dest)
    return {"changed": left, "dest": dest}


def _present(order: Order, check_mode: bool) -> Dict[str, Any]:
    require_cryptography()
    memory.harden_process()
    target = order.target()
    memory.require_memory(os.path.dirname(target.dest))
    opener.require_ours(target.dest)
    source = order.source()
    try:
        return _with_source(order, check_mode, target, source)
    finally:
        source.close()


def _with_source(order: Order, check_mode: bool, target: opener.Target, source: Any) -> Dict[str, Any]:
    sealed = opener.read_sealed(source)
    if sealed.manifest.profile == KSERVE:
        raise ModelError("it is encrypted for KServe, which opens it by itself", where=target.src, fix="Use profile files or image", code="model-profile")
    opened: Any = _Image(order, target, source, sealed) if sealed.manifest.profile == IMAGE_PROFILE else _Files(target, source, sealed)
    is_open = opened.is_open()
    result = {
        "changed": not is_open,
        "dest": target.dest,
        "model_id": sealed.manifest.model_id,
        "release": sealed.manifest.release,
        "files": len(sealed.manifest.files),
        "bytes": sealed.manifest.size,
        "profile": sealed.manifest.profile,
        "manifest_sha256": sealed.digest,
    }
    key = bytearray()
    try:
        if order.session is not None and not check_mode:
            key = _released_key(order, sealed, target.src, needed=not is_open)
        if is_open:
            return result
        opened.check()
        if check_mode:
            return result
        if not key:
            fix = "Give the session of model_release"
            raise ModelError("the model is not open yet, and session is not set", where=target.dest, fix=fix, code="model-no-session")
        result.update(opened.open(key))
    finally:
        memory.wipe(key)
    return result


def _released_key(order: Order, sealed: opener.Sealed, src: str, needed: bool) -> bytearray:
    """The data key, after the release was found to be for this very manifest. Empty if there is no session and none is needed."""
    if not needed and sessions.find_session(order.session_directory, str(order.session)) is None:
        return bytearray()
    session = sessions.load_session(order.session_directory, str(order.session))
    release = session.release()
    opener.check_release(sealed, release, src)
    key = bytearray(release.key)
    memory.lock_memory(key)
    # Used: from here on the key lies in this process only, however long the decryption takes.
    session.sweep()
    return key


class _Files:
    """Profile files: every byte decrypted into memory."""

    def __init__(self, target: opener.Target, source: Any, sealed: opener.Sealed) -> None:
        self._target, self._source, self._sealed = target, source, sealed

    def is_open(self) -> bool:
        return opener.is_open(self._target, self._sealed)

    def check(self) -> None:
        self._source.check(self._sealed.manifest)
        opener.check_space(self._target.dest, self._sealed.manifest)

    def open(self, key: bytearray) -> Dict[str, Any]:
        report = ProgressFile(opener.progress_path(self._target.dest), "decrypt")
        meter = Throttle(report)
        try:
            opener.decrypt(self._target, self._sealed, key, meter, self._source)
        finally:
            report.remove()
        # An image that was open there has been replaced.
        image_open.close(self._target.dest)
        return _pace(meter.seconds, self._sealed.manifest.size)


class _Image:
    """Profile image: mapped, and decrypted by the kernel when it is read."""

    def __init__(self, order: Order, target: opener.Target, source: Any, sealed: opener.Sealed) -> None:
        self._target, self._source, self._sealed = target, source, sealed
        self._fetched = order.remote
        self._threads = target.threads
        if order.remote and order.image is None:
            what = "the image of a model is mapped, not copied into memory, and needs a place for its ciphertext"
            raise ModelError(what, where=target.src, fix="Set image to a file on a disk, or to a disk that holds it", code="model-image-place")
        self._path = order.image or source.name(tree.IMAGE)

    def is_open(self) -> bool:
        return image_open.is_open(self._target.dest, self._sealed)

    def check(self) -> None:
        image = self._sealed.manifest.image
        if image is None:
            return
        if self._fetched:
            # A file that is there already has been fetched before; what it holds dm-verity says.
            download.check(self._source, image, self._path)
        else:
            image_open.check_image(self._path, image)

    def open(self, key: bytearray) -> Dict[str, Any]:
        image = self._sealed.manifest.image
        fetched = False
        if self._fetched and image is not None:
            fetched = self._reported("fetch", lambda meter: download.fetch(self._source, image, self._path, self._threads, meter))
        begin = time.monotonic()
        try:
            if fetched:
                # The server is asked for it now: what it sent wrong is found now, and not when somebody reads that part.
                self._reported("verify", lambda meter: image_open.open_image(self._target, self._sealed, self._path, key, meter))
            else:
                image_open.open_image(self._target, self._sealed, self._path, key)
        except ModelError as error:
            if self._fetched and error.code == "model-tag":
                download.discard(self._path)
            raise
        return {"seconds": round(time.monotonic() - begin, 3)}

    def _reported(self, phase: str, work: Callable[[Throttle], Any]) -> Any:
        report = ProgressFile(opener.progress_path(self._target.dest), phase)
        try:
            return work(Throttle(report))
        finally:
            report.remove()


def _pace(seconds: float, size: int) -> Dict[str, Any]:
    return {"seconds": round(seconds, 3), "bytes_per_second": int(size / seconds) if seconds else 0}


def _destination(path: str) -> str:
    if not os.path.isabs(path) or os.path.normpath(path) == "/":
        raise ModelError("an absolute path of a directory of its own is needed", where=path, code="model-dest")
    parent = os.path.realpath(os.path.dirname(os.path.normpath(path)))
    return os.path.join(parent, os.path.basename(os.path.normpath(path)))


def _number(name: Optional[str], what: str, look_up: Any) -> int:
    if name is None:
        return -1
    if name.isdecimal() and int(name) < _NO_ID:
        return int(name)
    try:
        return int(look_up(name))
    except KeyError:
        raise ModelError("there is no %s %s" % (what, ascii(name)), fix="Make it, or name another", code="model-owner") from None


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0o400 <= mode <= 0o777 or mode & 0o222:
        raise ModelError("%s is no mode like \"0400\" or \"0444\": the files are to be read, not written" % ascii(text), where="mode", code="model-mode")
    return mode

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Opening the image of a model in a guest: file or disk -> dm-crypt -> dm-verity -> EROFS, each with parameters from the signed manifest alone.

Nothing on the disk is read before dm-verity has seen it. ``dest`` is a link into ``<dest>.mount-<random>``, a directory in memory whose mode says
who may enter; it is set in one step, so that an old model is served until the new one is there. Blocks are decrypted and verified again whenever
the page cache has dropped them: the host may change its disk at any time, and then reading fails.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
import stat
from contextlib import ExitStack
from typing import Callable, Iterator, Optional, Tuple

from ansible_collections.attested.ai.plugins.module_utils.errors import ModelError
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import emwp, mapper, marker, tree
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.image_build import HEADER, image_key
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import ImageEntry, Manifest
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.open import Sealed, Target
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.publish import exchange_or_rename
from ansible_collections.attested.ai.plugins.module_utils.target.memory import lock_memory, wipe, wipe_tree

_BLOCK = 4096
_PIECE = 1 << 20
_MOUNT = "model"
_PREFIX = "attested-model-"


def is_disk(path: str) -> bool:
    """A block device, and no file."""
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


def disk_size(descriptor: int) -> int:
    """Raises OSError."""
    return mapper.device_size(descriptor)


def check_image(path: str, image: ImageEntry) -> None:
    """Is this the file or disk that the manifest means? Size and first sector only; dm-verity sees the rest. Raises ModelError."""
    os.close(_open(path, image))


def _open(path: str, image: ImageEntry) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        fix = "Copy or attach the image, and give its place as image"
        raise ModelError("the image cannot be opened (%s)" % error.strerror, where=path, fix=fix, code="model-file-missing") from None
    try:
        status = os.fstat(descriptor)
        if stat.S_ISBLK(status.st_mode):
            size = disk_size(descriptor)
            good = size >= image.size
        elif stat.S_ISREG(status.st_mode):
            size = status.st_size
            good = size == image.size
        else:
            raise ModelError("it is neither a file nor a disk", where=path, code="model-special-file")
        if not good:
            raise ModelError("it is %d bytes long, %d expected" % (size, image.size), where=path, fix="Copy the image again", code="model-file-size")
        if hashlib.sha256(os.pread(descriptor, HEADER, 0)).hexdigest() != image.header_sha256:
            raise ModelError("its beginning is not that of the manifest: it was encrypted in another run", where=path, code="model-header")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_open(dest: str, sealed: Sealed) -> bool:
    """Whether ``dest`` leads to exactly this image: the marker says so, and so do the mounts and the kernel's own tables."""
    image = sealed.manifest.image
    holder = _holder(dest)
    if image is None or holder is None or not marker.names(dest, sealed.digest, os.lstat(holder).st_ino):
        return False
    verity = mapper.table(_name(holder)).split(" ")
    place = os.path.join(holder, _MOUNT)
    try:
        mounted = os.path.ismount(place) and os.stat(place).st_dev == os.stat(mapper_node(holder)).st_rdev
    except OSError:
        return False
    return mounted and verity[0] == "verity" and image.root_hash in verity


def mapper_node(holder: str) -> str:
    """The device of a mount, by the name that it got."""
    for path in glob.glob("/sys/block/dm-*/dm/name"):
        with open(path, encoding="ascii", errors="replace") as stream:
            if stream.read().strip() == _name(holder):
                return "/dev/" + path.split("/")[3]
    raise FileNotFoundError(holder)


def open_image(target: Target, sealed: Sealed, path: str, dek: bytearray, read_through: Optional[Callable[[int, int], None]] = None) -> None:
    """Map, mount, compare names and sizes, and put the model in its place. Whatever goes wrong, nothing of this attempt is left.

    With ``read_through``, which is told how far it is, every byte is read once before, so that dm-verity has seen it. The caller has checked signature and
    release, and that ``dest`` lies in memory.
    """
    image = sealed.manifest.image
    if image is None:
        raise ModelError("its manifest names no image", where=target.src, code="model-profile")
    close(target.dest, keep=_holder(target.dest))
    holder = "%s.mount-%s" % (target.dest, os.urandom(8).hex())
    lock = -1
    done = False
    try:
        os.mkdir(holder, 0o700)
        lock = os.open(holder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # Held until the end: tells a later run that this is no left-over.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.mkdir(os.path.join(holder, _MOUNT), 0o700)
        _map(holder, sealed.manifest, image, path, dek)
        _compare(os.path.join(holder, _MOUNT), sealed.manifest)
        if read_through is not None:
            _read_through(os.path.join(holder, _MOUNT), sealed.manifest, read_through)
        if (target.uid, target.gid) != (-1, -1):
            os.chown(holder, target.uid, target.gid)
        os.chmod(holder, target.directory_mode)
        marker.write(target.dest, sealed.digest, sealed.manifest, os.fstat(lock).st_ino)
        link = holder + ".link"
        os.symlink(os.path.join(os.path.basename(holder), _MOUNT), link)
        exchange_or_rename(link, target.dest)
        done = True
        # After success this is what had the name before, or nothing.
        wipe_tree(link, overwrite=False)
        close(target.dest, keep=holder)
    except (OSError, ModelError) as error:
        raise _cause(error, holder, target.dest, path) from None
    finally:
        if not done:
            _tear_down(holder)
        if lock >= 0:
            os.close(lock)


def _map(holder: str, manifest: Manifest, image: ImageEntry, path: str, dek: bytearray) -> None:
    name, place = _name(holder), os.path.join(holder, _MOUNT)
    secret = image_key(dek, manifest.model_id, manifest.release, image.root_hash, image.uuid)
    lock_memory(secret)
    salt = emwp.salt(emwp.identity(dek, manifest.model_id, manifest.release)).hex()
    with ExitStack() as stack:
        stack.callback(wipe, secret)
        descriptor = _open(path, image)
        stack.callback(os.close, descriptor)
        status = os.fstat(descriptor)
        if stat.S_ISBLK(status.st_mode):
            below = (os.major(status.st_rdev), os.minor(status.st_rdev))
        else:
            below = stack.enter_context(mapper.loop(descriptor))
        key = stack.enter_context(mapper.key("attested:" + os.path.basename(name), secret))
        crypt = mapper.create(name + "-crypt", image.size, "crypt", "%s %s 0 %d:%d 0 1 sector_size:%d" % ((emwp.CIPHER, key) + below + (emwp.SECTOR,)))
    # Behind the data one block is left for a superblock that nobody reads; the tree begins after it.
    blocks = image.hash_offset // _BLOCK
    numbers = "%d:%d" % crypt
    parameters = "1 %s %s %d %d %d %d sha256 %s %s" % (numbers, numbers, _BLOCK, _BLOCK, blocks, blocks + 1, image.root_hash, salt)
    device = mapper.create(name, image.hash_offset, "verity", parameters)
    mapper.mount(mapper.node(device), place, "erofs")


def _cause(error: Exception, holder: str, dest: str, path: str) -> ModelError:
    """What a failure means. Whether a block did not verify, dm-verity says: the kernel's number is the same for a disk that cannot be read, and a kernel
    without EROFS or memory is no fault of the image."""
    try:
        damaged = mapper.met_damage(_name(holder))
    except OSError:
        damaged = False
    said = error.what if isinstance(error, ModelError) else getattr(error, "strerror", None) or error
    if damaged:
        what = "a part of it does not verify (%s): it is damaged, or it is the image of another model or release" % said
        return ModelError(what, where=path, fix="Copy the image again", code="model-tag")
    if isinstance(error, ModelError):
        return error
    fix = "It needs root, a kernel with dm-crypt, dm-verity, EROFS and loop devices, and a disk that can be read"
    return ModelError("the image cannot be mapped (%s)" % said, where=str(getattr(error, "filename", None) or dest), fix=fix, code="model-image-map")


def _compare(place: str, manifest: Manifest) -> None:
    root = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = tree.listing(root, place)
    finally:
        os.close(root)
    if found != {entry.path: entry.size for entry in manifest.files}:
        raise ModelError("the image does not hold the files that the manifest names", where=place, code="model-file-extra")


def _read_through(place: str, manifest: Manifest, tell: Callable[[int, int], None]) -> None:
    buffer, done = bytearray(_PIECE), 0
    try:
        for entry in manifest.files:
            path = os.path.join(place, entry.path)
            for count in _pieces(path, buffer):
                done += count
                tell(done, manifest.size)
    finally:
        wipe(buffer)


def _pieces(path: str, buffer: bytearray) -> Iterator[int]:
    """Read a file into ``buffer``, and how much of it each time. What the caller raises in between is no fault of the file."""
    descriptor = -1
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        count = os.readv(descriptor, [buffer])
        while count:
            yield count
            count = os.readv(descriptor, [buffer])
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def close(dest: str, keep: Optional[str] = None) -> bool:
    """Unmount and unmap what was opened at ``dest`` or was left half open, but for the directory ``keep``. Returns whether there was anything.

    Who still reads goes on reading until he is done; then the kernel removes the devices.
    """
    found = False
    for path in links(dest):
        # A run that was killed between two names. What had the name before may be a whole model.
        wipe_tree(path, overwrite=False)
        found = True
    for holder in holders(dest):
        if holder == keep:
            continue
        descriptor = os.open(holder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _tear_down(holder)
        except BlockingIOError:
            raise ModelError("another run is opening the model there", where=holder, fix="Wait until it is done", code="model-busy") from None
        finally:
            os.close(descriptor)
        found = True
    return found


def holders(dest: str) -> Tuple[str, ...]:
    """The directories in memory that images were mounted in."""
    return tuple(sorted(_holders(dest)))


def links(dest: str) -> Tuple[str, ...]:
    """What runs left that were killed while they gave the model its name."""
    return tuple(sorted(glob.glob(glob.escape(dest) + ".mount-*.link")))


def _holders(dest: str) -> Iterator[str]:
    for path in glob.glob(glob.escape(dest) + ".mount-*"):
        if os.path.isdir(path) and not os.path.islink(path) and len(_suffix(path)) == 16:
            yield path


def _holder(dest: str) -> Optional[str]:
    """The directory that ``dest`` leads to now, if it is a link of ours."""
    try:
        aim = os.readlink(dest)
    except OSError:
        return None
    path = os.path.join(os.path.dirname(dest), os.path.dirname(aim))
    return path if path in holders(dest) else None


def _tear_down(holder: str) -> None:
    name, place = _name(holder), os.path.join(holder, _MOUNT)
    try:
        while mapper.unmount(place):
            pass
        mapper.remove(name)
        mapper.remove(name + "-crypt")
    except FileNotFoundError:
        # There is no device mapper, so there is no device.
        pass
    except OSError as error:
        raise ModelError("the image cannot be unmapped (%s)" % error.strerror, where=place, code="model-image-map") from None
    for path in (place, holder):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            pass


def _suffix(holder: str) -> str:
    return holder.rpartition(".mount-")[2]


def _name(holder: str) -> str:
    return _PREFIX + _suffix(holder)

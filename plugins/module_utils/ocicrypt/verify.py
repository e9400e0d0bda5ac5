# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Is an image encrypted, every layer, under this key, and is it still what was encrypted: asked of the image itself, after every run."""

from __future__ import annotations

import hashlib
import hmac
import os
from concurrent.futures import ThreadPoolExecutor
from typing import List, Sequence, Tuple

from ansible_collections.attested.ai.plugins.module_utils.cryptography_dep import require_cryptography
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt import layout, packet
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt.problem import ImageError

PUBLIC_OPTIONS = "org.opencontainers.image.enc.pubopts"
CIPHER = "AES_256_CTR_HMAC_SHA256"
# What image-rs decrypts in a guest. It knows no encrypted zstd layer, and skopeo encrypts no other kinds.
PLAIN = ("application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip",
         "application/vnd.docker.image.rootfs.diff.tar")  # fmt: skip
SECRET = tuple(kind + layout.ENCRYPTED for kind in PLAIN[:2])


def check_source(source: layout.Image, where: str) -> None:
    """Raises ImageError unless it is a plain image that skopeo encrypts and guests open."""
    if not source.layers:
        raise ImageError("it has no layers", where=where, code="image-source")
    for layer in source.layers:
        if layer.encrypted:
            raise ImageError("it is encrypted already, in part or whole", where=where, fix="Give the plain image", code="image-source-encrypted")
        if layer.media_type not in PLAIN:
            zstd = layer.media_type.endswith(("zstd", "zstd:chunked"))
            fix = (
                "Guests open no encrypted zstd layers: skopeo copy --dest-compress-format gzip --dest-force-compress-format" if zstd
                else "skopeo encrypts only layers of container images. For a model: model_image, or model_encrypt"
            )  # fmt: skip
            raise ImageError("it has a layer of the kind %s" % strict.quoted(layer.media_type), where=where, fix=fix, code="image-source")


def layer_keys(found: layout.Image, key: bytes, kid: str, where: str) -> Tuple[packet.LayerKey, ...]:
    """The keys of all layers. Raises ImageError if one is not encrypted, or not under this key."""
    if not found.layers:
        raise ImageError("it has no layers", where=where, code="image-plain")
    keys = []
    for number, layer in enumerate(found.layers):
        place = "%s layer %d" % (where, number)
        if layer.media_type not in SECRET:
            raise ImageError("it is not encrypted (%s)" % strict.quoted(layer.media_type), where=place, code="image-plain")
        text = layer.annotations.get(packet.ANNOTATION)
        if text is None:
            raise ImageError("it is encrypted, but not for guests of Confidential Containers", where=place, code="image-packet")
        found_packet = packet.Packet.parse(strict.decode_base64(text, place, 1, packet.PACKET_MAX), place)
        if found_packet.kid != kid:
            raise ImageError("it is encrypted under %s, not %s" % (found_packet.kid, kid), where=place, code="image-other-key")
        keys.append(packet.parse_options(found_packet.open(key)))
        _hmac(layer, place)
    return tuple(keys)


def check_content(folder: str, found: layout.Image, keys: Sequence[packet.LayerKey]) -> None:
    """Decrypt every layer in memory, piece by piece, and compare it with what was encrypted. Raises ImageError."""
    require_cryptography()
    layout.read_blob(folder, found.config.digest)
    places = ["%s layer %d" % (folder, number) for number in range(len(found.layers))]
    # Hashes and ciphers let other threads run meanwhile.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        list(pool.map(_check_layer, [folder] * len(places), found.layers, keys, places))


def _check_layer(folder: str, layer: layout.Layer, key: packet.LayerKey, place: str) -> None:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    mac = hmac.new(key.symkey, digestmod=hashlib.sha256)
    cipher = Cipher(algorithms.AES(key.symkey), modes.CTR(key.nonce)).decryptor()
    outer, inner = hashlib.sha256(), hashlib.sha256()
    with layout.open_blob(folder, layer) as stream:
        for chunk in iter(lambda: stream.read(layout.CHUNK), b""):
            outer.update(chunk)
            mac.update(chunk)
            inner.update(cipher.update(chunk))
    if "sha256:" + outer.hexdigest() != layer.digest:
        raise ImageError("it was changed: its digest is another", where=place, code="image-blob")
    if not hmac.compare_digest(mac.digest(), _hmac(layer, place)) or "sha256:" + inner.hexdigest() != key.digest:
        raise ImageError("it was changed: its key does not open it to what was encrypted", where=place, code="image-content")


def check_same(keys: Sequence[packet.LayerKey], source: layout.Image, where: str) -> None:
    """Each layer holds the layer of the source, in order; the digests come out of the packets, which only a holder of the key can make."""
    inside: List[str] = [key.digest for key in keys]
    if inside != [layer.digest for layer in source.layers]:
        raise ImageError("its layers are not those of the source", where=where, code="image-other-content")


def _hmac(layer: layout.Layer, where: str) -> bytes:
    text = layer.annotations.get(PUBLIC_OPTIONS)
    if text is None:
        raise ImageError("it has no %s" % PUBLIC_OPTIONS, where=where, code="image-packet")
    document = strict.members(
        strict.loads(strict.decode_base64(text, where, 2, 4096), where), ("cipher", "hmac"), ("cipheroptions",), where=where
    )
    if document["cipher"] != CIPHER or document.get("cipheroptions"):
        raise ImageError("its cipher is %s, not %s" % (strict.quoted(document["cipher"]), CIPHER), where=where, code="image-packet")
    return strict.decode_base64(document["hmac"], where, 32, 32)

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How much memory the virtual machine of a pod has, what of it is for what, and what the node must have for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict

from ansible_collections.attested.ai.plugins.module_utils.kubernetes.findings import Findings
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.platforms import RuntimeClass, server
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.quantity import written
from ansible_collections.attested.ai.plugins.module_utils.kubernetes.spec import PodSpec

# Where no number is known, that of Kata's classes without a GPU.
USUAL_MEMORY_MIB = 2048
# LUKS2, its integrity tags and a file system take a part of the device.
STORE_SPARE_PERCENT = 10


@dataclass(frozen=True)
class Sizing:
    """All in MiB. ``limit`` is what the container asks for; the rest is told."""

    limit: int
    shm: int
    model: int
    image: int
    vm: int
    node: int

    def to_dict(self) -> Dict[str, Any]:
        return {"limit": written(self.limit), "shared_memory": written(self.shm) if self.shm else "0", "model": written(self.model) if self.model else "0",
                "image": written(self.image) if self.image else "0", "vm": written(self.vm), "node": written(self.node)}  # fmt: skip


def size(spec: PodSpec, runtime: RuntimeClass) -> Sizing:
    shm = server(spec.server).shm_mib * max(1, spec.gpus.count if spec.gpus else 1)
    model = spec.model.size_mib if spec.model.source == "ciphertext" else 0
    image = 0 if spec.trusted_store else spec.image_size_mib
    limit = spec.memory_mib + spec.scratch_mib + shm + model + image
    return Sizing(limit, shm, model, image, limit + (runtime.default_memory_mib or USUAL_MEMORY_MIB), limit + (runtime.overhead_mib or 0))


def check(spec: PodSpec, sizing: Sizing, found: Findings) -> None:
    store = spec.trusted_store
    if store is None:
        if sizing.image * 2 > sizing.vm:
            found.refuse(
                "image-too-large", "the unpacked image (%s) goes to a file system in the guest's memory that takes half of it, and the guest has %s"
                % (written(sizing.image), written(sizing.vm)),
                "Give it trusted_store, a block device that the guest encrypts, or more memory", "kata issue 5408",
            )  # fmt: skip
        elif not sizing.image and spec.model.source == "layers":
            found.refuse("image-size-unknown", "the model lies in the image, and how large that is was not said: it may fill the guest's memory",
                         "Give image_size (unpacked), or trusted_store", "kata issue 5408")  # fmt: skip
        elif not sizing.image:
            found.note("image_size was not given: the unpacked image lies in the guest's memory, beside what was asked for, and may take half of it")
    elif store.size_mib and spec.image_size_mib and store.size_mib * 100 < spec.image_size_mib * (100 + STORE_SPARE_PERCENT):
        found.refuse("store-too-small", "trusted_store (%s) must hold the unpacked image (%s) and a tenth more for what the encryption adds"
                     % (written(store.size_mib), written(spec.image_size_mib)), "Make it larger")  # fmt: skip
    if spec.model.source == "ciphertext" and sizing.model and spec.memory_mib < 1024:
        found.note("memory is what the server has besides the model, and %s is little" % written(spec.memory_mib))

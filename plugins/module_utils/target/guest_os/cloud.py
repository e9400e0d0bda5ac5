# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where a guest runs, as its firmware tables say: the host writes them, so this only helps to choose drivers."""

from __future__ import annotations

from ansible_collections.attested.ai.plugins.module_utils.target.probes.host import Host, Unreadable

DMI = "/sys/class/dmi/id/"
AZURE, GCP, AWS, KVM, NONE = "azure", "gcp", "aws", "kvm", "none"
# Azure gives this tag to the chassis of each of its machines; Hyper-V elsewhere does not.
AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"


def cloud(host: Host) -> str:
    """azure, gcp, aws, kvm for a plain QEMU, or none."""

    def field(name: str) -> str:
        text = host.text(DMI + name)
        return "" if isinstance(text, Unreadable) else text

    vendor, product = field("sys_vendor"), field("product_name")
    if field("chassis_asset_tag") == AZURE_TAG:
        return AZURE
    if vendor == "Google" or product == "Google Compute Engine":
        return GCP
    if vendor == "Amazon EC2":
        return AWS
    return KVM if vendor == "QEMU" or product.startswith(("Standard PC", "KVM")) else NONE

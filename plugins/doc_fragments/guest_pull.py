# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options of modules that ask key brokers from the guest."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  timeout:
    description: Seconds for one whole answer of a key broker.
    type: int
    default: 20
  init_data:
    description: File on the guest with the init-data that it was launched with. The KBS compares it with the evidence, and its policy may ask for it.
    type: path
  method:
    description: As in M(attested.ai.tee_evidence).
    type: str
    choices: [auto, configfs, ioctl, azure]
    default: auto
  tsm_path:
    description: As in M(attested.ai.tee_evidence).
    type: path
    default: /sys/kernel/config/tsm/report
  device:
    description: As in M(attested.ai.tee_evidence).
    type: path
    default: /dev/sev-guest
  tpm_device:
    description: As in M(attested.ai.tee_evidence).
    type: path
    default: /dev/tpmrm0
  privlevel:
    description: As in M(attested.ai.tee_evidence).
    type: int
  gpus:
    description: As in M(attested.ai.tee_evidence).
    type: str
    choices: [none, auto, required]
    default: none
  switches:
    description: As in M(attested.ai.tee_evidence).
    type: str
    choices: [none, auto, required]
    default: auto
  nvml_library:
    description: As in M(attested.ai.tee_evidence).
    type: str
    default: libnvidia-ml.so.1
  nscq_library:
    description: As in M(attested.ai.tee_evidence).
    type: str
    default: libnvidia-nscq.so.2
  event_log:
    description: As in M(attested.ai.tee_evidence).
    type: str
    choices: [none, auto, required]
    default: auto
  event_log_path:
    description: As in M(attested.ai.tee_evidence).
    type: path
    default: /sys/firmware/acpi/tables/data/CCEL
"""

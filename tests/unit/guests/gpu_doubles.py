# SPDX-License-Identifier: GPL-3.0-or-later
"""Doubles of the programs that the role gpu_cc_guest runs, each under its own name. The state is a folder: state.json, log, and the guest's root.

A GPU in confidential mode is initialised once per reset: a program that touches it before nvidia-persistenced holds it has lost it, here as there.
"""

from __future__ import annotations

import json
import os
import sys

HERE = os.path.dirname(os.path.dirname(os.path.abspath(sys.argv[0])))
STATE, LOG, ROOT = (os.path.join(HERE, name) for name in ("state.json", "log", "root"))
PERSISTENCED = "nvidia-persistenced.service"
VERSION = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (x@y)  Tue Sep 23 09:55:41 UTC 2025\n"


def note(*words):
    with open(LOG, "a", encoding="utf-8") as stream:
        stream.write(" ".join(words) + "\n")


def modprobe(state, words):
    if words[0] == "--show-depends":
        if words[1] in state["crypto"]:
            print("insmod /lib/modules/x/%s.ko" % words[1])
            return 0
        return 1
    note("modprobe", *words)
    os.makedirs(ROOT + "/proc/driver/nvidia", exist_ok=True)
    with open(ROOT + "/proc/driver/nvidia/version", "w", encoding="utf-8") as stream:
        stream.write(VERSION)
    with open(ROOT + "/etc/modprobe.d/attested-ai-gpu-cc-guest.conf", encoding="utf-8") as stream:
        text = stream.read()
    with open(ROOT + "/proc/driver/nvidia/params", "w", encoding="utf-8") as stream:
        stream.write("NvLinkDisable: %d\n" % ("NVreg_NvLinkDisable=1" in text))
        stream.write('RegistryDwords: "%s"\n' % ("RmEnableProtectedPcie=0x1" if "RmEnableProtectedPcie" in text else ""))
    return 0


def nvidia_smi(state, words):
    if state["units"][PERSISTENCED]["active"] != "active":
        state["lost"] = True
    if state.get("lost"):
        print("No devices were found")
        return 6
    if words[1] == "-q":
        print(
            "\n==============NVSMI CONF-COMPUTE LOG==============\n\n    CC State                   : %s"
            % ("OFF" if state["mode"] in ("ppcie", "off") else "ON")
        )
        print("    Multi-GPU Mode             : %s" % ("Protected PCIe" if state["mode"] == "ppcie" else "None"))
        print("    CPU CC Capabilities        : AMD SEV-SNP\n    GPU CC Capabilities        : CC Capable")
        print("    CC GPUs Ready State        : %s" % ("Ready" if state["ready"] else "Not Ready"))
    elif words[1] == "-grs":
        print("Confidential Compute GPUs Ready state: %s" % ("ready" if state["ready"] else "not-ready"))
    else:
        note("nvidia-smi", *words)
        state["ready"] = words[2] == "1"
    return 0


def systemctl(state, words):
    names = [word for word in words[1:] if not word.startswith("-")]
    units = [(name, state["units"].get(name, {"load": "not-found", "active": "inactive", "file": ""})) for name in names]
    if words[0] == "show":
        value = "--value" in words
        blocks = []
        for name, one in units:
            if value:
                blocks.append(one["load"])
            else:
                blocks.append("Id=%s\nLoadState=%s\nActiveState=%s\nSubState=x\nUnitFileState=%s" % (name, one["load"], one["active"], one["file"]))
        print("\n\n".join(blocks))
    elif words[0] == "is-enabled":
        print(units[0][1]["file"] or "disabled")
        return 0 if units[0][1]["file"] == "enabled" else 1
    elif words[0] in ("start", "stop", "enable", "disable"):
        note("systemctl", words[0], names[0])
        key, value = {"start": ("active", "active"), "stop": ("active", "inactive"), "enable": ("file", "enabled"), "disable": ("file", "disabled")}[words[0]]
        state["units"][names[0]][key] = value
    elif words[0] != "daemon-reload":
        return 1
    return 0


def main():
    name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
    with open(STATE, encoding="utf-8") as stream:
        state = json.load(stream)
    rc = 0
    if name == "journalctl":
        print("Linux version 6.17.0\n" + "\n".join(state["kernel_log"]))
    elif name == "update-initramfs":
        note(name, *words)
    else:
        rc = {"modprobe": modprobe, "nvidia-smi": nvidia_smi, "systemctl": systemctl}[name](state, words)
    with open(STATE, "w", encoding="utf-8") as stream:
        json.dump(state, stream)
    return rc


if __name__ == "__main__":
    sys.exit(main())

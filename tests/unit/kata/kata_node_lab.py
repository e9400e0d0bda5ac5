# SPDX-License-Identifier: GPL-3.0-or-later
"""A node in a folder, on which the role kata is played whole: archives, and stand-ins for systemctl and, where CONTAINERD names none, containerd."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

# A colon between several; the first is used, the others are for configurations alone.
REAL = [name for name in os.environ.get("CONTAINERD", "").split(":") if name]
SYSTEMCTL = """#!/bin/sh
log="$(dirname "$0")/../log"
case "$1" in
  show) printf 'Id=%s\\nLoadState=loaded\\nActiveState=active\\n' "$2" ;;
  is-enabled) echo enabled ;;
  restart) echo "restart $2" >> "$log" ;;
esac
"""
# Reads and merges as containerd 2 does (measured on 2.3.7): tables together, lists as a whole, the last file wins.
CONTAINERD = """#!%s
import glob, json, sys, tomllib
if sys.argv[1:] == ["--version"]:
    sys.exit(print("containerd github.com/containerd/containerd/v2 v2.3.7 stand-in"))
def merge(a, b):
    return {**a, **{k: merge(a[k], v) if isinstance(a.get(k), dict) and isinstance(v, dict) else v for k, v in b.items()}}
def read(path, missing=False):
    try:
        return tomllib.load(open(path, "rb"))
    except FileNotFoundError:
        return {} if missing else sys.exit("containerd: failed to load TOML: %%s: no such file" %% path)
    except tomllib.TOMLDecodeError as error:
        sys.exit("containerd: failed to unmarshal TOML: %%s" %% error)
main = read(sys.argv[2], True)
for name in main.get("imports", []):
    for path in sorted(glob.glob(name)) if "*" in name else [name]:
        main = merge(main, {k: v for k, v in read(path).items() if k != "imports"})
def told(table, names):
    inner = []
    if names:
        print("[%%s]" %% ".".join(json.dumps(one) for one in names))
    for key, value in table.items():
        if isinstance(value, dict):
            inner.append((key, value))
        else:
            print("%%s = %%s" %% (json.dumps(key), json.dumps(value)))
    for key, value in inner:
        told(value, [*names, key])
told(main, [])
"""


def archive(folder: Path, name: str, *shims: str, rust: bool = False, mark: str = "") -> dict[str, str]:
    """What a release holds, as far as the role looks: as tar.gz, which needs no further program."""
    place = folder / (name + ".tar.gz")
    root = "./opt/kata/" + ("runtime-rs/" if rust else "")
    defaults = "./opt/kata/share/defaults/kata-containers/" + ("runtime-rs/" if rust else "")
    files = {root + "bin/containerd-shim-kata-v2": "#!/bin/sh\n# %s\n" % mark, "./opt/kata/VERSION": "4.3.0\n"}
    for shim in shims:
        files["%sconfiguration-%s.toml" % (defaults, shim)] = '# %s\n[hypervisor.qemu]\nenable_annotations = ["kernel_params", "cc_init_data"]\n' % mark
    with tarfile.open(place, "w:gz") as whole:
        for path, text in files.items():
            item = tarfile.TarInfo(path)
            item.size, item.mode, item.uid, item.gid = len(text), 0o755 if "bin/" in path else 0o644, os.getuid(), os.getgid()
            whole.addfile(item, io.BytesIO(text.encode()))
    return {"path": str(place), "sha256": hashlib.sha256(place.read_bytes()).hexdigest()}


class Node:
    def __init__(self, folder: Path, config: str | None = "version = 3\n\n[debug]\n  level = 'info'\n", containerd: str = "") -> None:
        self.folder, self.root = folder, folder / "root"
        (folder / "bin").mkdir(parents=True)
        (self.root / "etc/containerd").mkdir(parents=True)
        (self.root / "opt").mkdir()
        (folder / "kvm").touch()
        if config is not None:
            self.config.write_text(config)
        self._program("systemctl", SYSTEMCTL)
        self.containerd = containerd or (REAL[0] if REAL else self._program("containerd", CONTAINERD % sys.executable))

    @property
    def config(self) -> Path:
        return self.root / "etc/containerd/config.toml"

    @property
    def drop_in(self) -> Path:
        return self.root / "etc/containerd/conf.d/attested-ai-kata.toml"

    def _program(self, name: str, text: str) -> str:
        (self.folder / "bin" / name).write_text(text)
        (self.folder / "bin" / name).chmod(0o755)
        return str(self.folder / "bin" / name)

    def restarts(self) -> int:
        log = self.folder / "log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def tree(self) -> dict[str, str]:
        found = {}
        for path in sorted(self.root.rglob("*")):
            text = os.readlink(path) if path.is_symlink() else path.read_bytes().decode(errors="backslashreplace") if path.is_file() else "/"
            found[str(path.relative_to(self.root))] = text
        return found

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        told = {"name": "Tell", "ansible.builtin.debug": {"msg": "state={{ kata_result.state }} attested={{ kata_result.attested }}"}}
        return self._play([{"ansible.builtin.import_role": {"name": "attested.ai.kata"}}, told], *words, **options)

    def changes(self, *cases: dict[str, Any]) -> list[int]:
        """How many tasks changed something in each, one after another in one play, handlers counted."""
        end = {"ansible.builtin.debug": {"msg": "this was one"}}
        done = self._play([task for case in cases for task in ({"ansible.builtin.include_role": {"name": "attested.ai.kata"}, "vars": case}, end)])
        parts = done.stdout.split('"msg": "this was one"')
        assert done.returncode == 0 and len(parts) == len(cases) + 1, done.stdout
        # A task in a loop is told item by item.
        found = [sum(bool(re.search(r"^changed: ", task, re.MULTILINE)) for task in re.split(r"^(?:TASK|RUNNING HANDLER) ", part, flags=re.MULTILINE))
                 for part in parts]  # fmt: skip
        assert "changed=%d " % sum(found) in done.stdout and found.pop() == 0, done.stdout
        return found

    def refusals(self, *cases: dict[str, Any]) -> list[str]:
        """What the role says to each, in one play, since a play of its own takes seconds."""
        tasks = []
        for case in cases:
            said = {"ansible.builtin.debug": {"msg": "said={{ [ansible_failed_result] | to_json }}"}}
            role = {"ansible.builtin.include_role": {"name": "attested.ai.kata"}, "vars": case}
            tasks.append({"block": [role, {"ansible.builtin.debug": {"msg": "said=[{}]"}}], "rescue": [said]})
        done = self._play(tasks)
        assert "Traceback" not in done.stdout, done.stdout
        found = [json.loads(json.loads('"%s"' % text))[0] for text in re.findall(r'"msg": "said=(.*)"\n', done.stdout)]
        assert len(found) == len(cases), done.stdout
        # A task in a loop says it for each item, and of itself only that one failed.
        said = [[one, *(item for item in one.get("results", []) if item.get("failed"))] for one in found]
        return [" ".join(" ".join(str(part.get("msg", "")) for part in one).split()) for one in said]

    def _play(self, tasks: list[dict[str, Any]], *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        # Options are the play's, so that those of a case, which are its role's, win; from the command line they would win over the case.
        given = {"kata_method": "static", "kata_containerd": self.containerd, "kata_version": "4.3.0", **options}
        (self.folder / "play.json").write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "vars": given, "tasks": tasks}]))
        # Variables of a role are only overridden from the command line. Without this the role would work on the machine itself.
        values = {"__kata_root": str(self.root), "__kata_kvm": str(self.folder / "kvm"), "ansible_python_interpreter": sys.executable}
        (self.folder / "values.json").write_text(json.dumps(values))
        environment = dict(os.environ, ANSIBLE_LOCALHOST_WARNING="false", ANSIBLE_NOCOLOR="true", ANSIBLE_LOCAL_TEMP=str(self.folder / "local"), COLUMNS="400",
                           ANSIBLE_PIPELINING="1", PATH="%s:%s" % (self.folder / "bin", os.environ["PATH"]))  # fmt: skip
        command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local", str(self.folder / "play.json"), *words]
        command += ["-e", "@%s" % (self.folder / "values.json")]
        return subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=1200)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The role whole, with a double of mkosi: check mode, a build, nothing on the second run, and a version that is taken."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

UNIT = Path(__file__).resolve().parents[1] / "unit"
sys.path.insert(0, str(UNIT / "hosts"))

from role_lab import play  # noqa: E402

MKOSI = """#!{python}
import json, pathlib, re, sys
sys.path.insert(0, {lab!r})
from uki_lab import pe
project = pathlib.Path.cwd()
text = (project / "mkosi.conf").read_text()
value = lambda name: re.search("^%s=(.*)$" % name, text, re.MULTILINE).group(1)
out, base = pathlib.Path(value("OutputDirectory")), value("Output")
line = "roothash=" + "ab" * 32 + " " + value("KernelCommandLine")
packages = [dict(type="deb", name="nvidia-kernel-open-dkms", version={driver!r}, architecture="amd64")]
parts = dict(manifest=json.dumps(dict(packages=packages)).encode(), raw=b"disk", vmlinuz=b"kernel", initrd=b"initrd")
for name, content in parts.items():
    (out / (base + "." + name)).write_bytes(content)
(out / (base + ".efi")).write_bytes(pe([(".linux", parts["vmlinuz"]), (".cmdline", line.encode()), (".initrd", parts["initrd"])]))
"""


def test_a_version_is_built_once_and_check_mode_says_so(tmp_path, monkeypatch):
    programs, image = tmp_path / "bin", tmp_path / "images/guest/1"
    programs.mkdir()
    for name, text in (("mkosi", MKOSI.format(python=sys.executable, lab=str(UNIT / "guest_image"), driver="550.163.01-4")), ("apt-get", "#!/bin/sh\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    (tmp_path / "serve").write_text("one\n")
    given = {
        "guest_image_install": False, "guest_image_directory": str(tmp_path / "images"), "guest_image_cache": str(tmp_path / "cache"),
        "guest_image_mirror": "http://mirror.example.org/debian", "guest_image_authorized_keys": ["ssh-ed25519 AAAA x"],
        "guest_image_files": [{"src": str(tmp_path / "serve"), "dest": "/usr/local/bin/serve", "mode": "0755"}],
        "guest_image_fetch": str(tmp_path / "fetched"),
    }  # fmt: skip

    def run(*arguments: str, **changes: object) -> tuple[int, str]:
        status, output = play(tmp_path, {"builder": {}}, "present", arguments, "guest_image", **{**given, **changes})
        assert "Traceback" not in output
        return status, " ".join(output.split())

    status, said = run("--check")
    assert status == 0 and "guest 1 would be built" in said and not image.exists(), said
    status, said = run()
    assert status == 0, said
    document = json.loads((image / "image.json").read_text())
    assert document == json.loads((tmp_path / "fetched/image.json").read_text()) and document["root_hash"] == "ab" * 32
    assert (image / "cmdline").read_text() == document["cmdline"] and "noresume" in document["cmdline"].split()
    own = tmp_path / "images/guest/files/usr/local/bin/serve"
    assert own.read_text() == "one\n" and stat.S_IMODE(own.stat().st_mode) == 0o755 and not (tmp_path / "images/guest/scratch").exists()
    status, said = run()
    assert status == 0 and "changed=0" in said, said
    # A file of the user's is another one now.
    (tmp_path / "serve").write_text("two\n")
    status, said = run("--check")
    assert status == 2 and "was built of something else" in said, said
    # The manifest of the image is what says which driver it has.
    status, said = run(guest_image_version="2", guest_image_variant="gpu")
    assert status == 2 and "The image has NVIDIA's driver 550.163.01, and 570.86.15 is the least" in said, said
    assert not (tmp_path / "images/guest/2/image.json").exists()

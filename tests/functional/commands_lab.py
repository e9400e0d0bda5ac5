# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reader has who types the commands of a page: a home, a checkout beside it, and the files that the page speaks of, named as it names them."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import typing as t

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

REPO = pathlib.Path(__file__).resolve().parents[2]
# Of the checkout, what pages call by its place.
CHECKOUT = ("tools", "bench", "extensions", "requirements", "docs", "Makefile", ".cache")
MARK = "command-of-a-page"
# No time is asserted: what hangs has to end.
SECONDS = 900


@dataclasses.dataclass(frozen=True)
class Done:
    status: int
    output: str


@dataclasses.dataclass(frozen=True)
class Sandbox:
    """One page's folder, which is the home of whoever types there, too."""

    home: pathlib.Path

    @classmethod
    def make(cls, home: pathlib.Path) -> t.Self:
        for name in CHECKOUT:
            (home / name).symlink_to(REPO / name)
        (home / ".venv-test").mkdir()
        (home / ".venv-test" / "bin").symlink_to(pathlib.Path(sys.executable).parent)
        installed = home / ".ansible" / "collections" / "ansible_collections" / "attested"
        installed.mkdir(parents=True)
        (installed / "ai").symlink_to(REPO)
        return cls(home)

    def write(self, name: str, content: t.Any) -> None:
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")

    def environment(self) -> dict[str, str]:
        own = {
            "HOME": str(self.home), "PATH": os.pathsep.join((str(pathlib.Path(sys.executable).parent), os.environ["PATH"])), "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_DEPRECATION_WARNINGS": "0", "COLUMNS": "160", "TMPDIR": str(self.home),
        }  # fmt: skip
        return {**os.environ, **own}

    def script(self, lines: t.Sequence[str]) -> list[Done]:
        """Run them one after the other in one shell, whose folder, variables and exports stay, and tell of each what it said and ended with."""
        written = [f'{{ {line}\n}} >"$HOME/{MARK}.{number}" 2>&1; echo $? >"$HOME/{MARK}.{number}.status"' for number, line in enumerate(lines)]
        done = subprocess.run(
            ["bash", "-c", "\n".join(written)], cwd=self.home, env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=SECONDS,
        )  # fmt: skip
        assert done.returncode == 0 and not done.stderr, done.stderr
        paths = [self.home / f"{MARK}.{number}" for number in range(len(lines))]
        return [Done(int(path.with_name(path.name + ".status").read_text()), path.read_text()) for path in paths]

    def serve(self, line: str, says: t.Sequence[str]) -> Done:
        """Start a program that goes on, wait until it has said its words or ended, and end it."""
        process = subprocess.Popen(
            ["bash", "-c", f"exec env {line}"], cwd=self.home, env={**self.environment(), "PYTHONUNBUFFERED": "1"}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        said = ""
        watch = threading.Timer(SECONDS, process.kill)
        watch.start()
        try:
            assert process.stdout is not None
            # It ends where the program does: nothing is waited for that cannot come.
            for part in process.stdout:
                said += part
                if all(word in said for word in says):
                    return Done(0, said)
            return Done(process.wait(10) or 1, said)
        finally:
            watch.cancel()
            process.terminate()
            process.wait(10)


def block(page: str, beginning: str) -> str:
    """The YAML of a page that begins so: what a reader copies."""
    found = re.findall(r"^ *```yaml\n(.*?)^ *```$", (REPO / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return next(text for text in map(_left, found) if text.startswith(beginning))


def _left(text: str) -> str:
    depth = len(text) - len(text.lstrip(" "))
    return re.sub(rf"^ {{{depth}}}", "", text, flags=re.MULTILINE)


def private() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def public(key: t.Any) -> str:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


# Starts the Soft TEE where a page needs it, or gives the one that runs.
Guest = t.Callable[[], t.Any]


def _inventory(sandbox: Sandbox, guest: t.Any) -> None:
    """That of the quickstart; the machines are this one, and the guest's TEE is the soft one."""
    hosts = yaml.safe_load(block("docs/quickstart.md", "# inventory.yml"))
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
    soft = {"attest_tsm_path": str(guest.tsm_path)}
    sandbox.write("inventory.yml", {**hosts, "all": {"vars": here | soft}})
    shutil.copy(guest.reference_values, sandbox.home / "reference-values.yml")


def quickstart(sandbox: Sandbox, soft: Guest) -> None:
    guest = soft()
    _inventory(sandbox, guest)
    # The page's policy, and what its next words say: everything is refused that is not spelled out, as this root is no vendor's.
    page = yaml.safe_load(block("docs/quickstart.md", "# policy.yml"))
    sandbox.write("policy.yml", {**yaml.safe_load(guest.policy.read_text()), **page})


def operations(sandbox: Sandbox, soft: Guest) -> None:
    guest = soft()
    _inventory(sandbox, guest)
    (sandbox.home / "attest.pem").write_bytes(private())
    (sandbox.home / "attest.pem").chmod(0o600)
    kept = {"attest_results": str(sandbox.home / "results"), "attest_key": "attest.pem"}
    sandbox.write("attest.yml", {"attest_policy": str(guest.policy), "attest_reference_values": "reference-values.yml", **kept})


def fleet(sandbox: Sandbox, soft: Guest) -> None:
    """Results as the runbook's command makes them, signed, and the inventory of the page beside them."""
    operations(sandbox, soft)
    (done,) = sandbox.script(["ansible-playbook -i inventory.yml attested.ai.attest -e @attest.yml -e target=guest1.example.org"])
    assert done.status == 0, done.output
    (sandbox.home / "inventory.yml").rename(sandbox.home / "hosts.yml")
    key = serialization.load_pem_private_key((sandbox.home / "attest.pem").read_bytes(), None)
    sandbox.write("monitor.pub.pem", public(key))
    plugin = yaml.safe_load(block("docs/fleet.md", "# fleet.attested.yml"))
    sandbox.write("fleet.attested.yml", {**plugin, "results": [str(sandbox.home / "results")], "public_keys": ["monitor.pub.pem"]})
    task = {"name": "Serve", "ansible.builtin.debug": {"msg": "{{ inventory_hostname }} is {{ attested_state }}"}}
    sandbox.write("serve.yml", [{"name": "Serve", "hosts": "guests", "gather_facts": False, "tasks": [task]}])


def planning(sandbox: Sandbox, _soft: Guest) -> None:
    text = block("docs/planning.md", "# model.yml")
    sandbox.write("model.yml", text)
    sandbox.write("hosts.yml", {"plan_hosts": yaml.safe_load(text)["plan_hosts"]})
    shape = {"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8}
    sandbox.write("model/config.json", json.dumps({**shape, "model_type": "llama", "torch_dtype": "bfloat16", "vocab_size": 128256}))


def key_release(sandbox: Sandbox, _soft: Guest) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kbs.example.org")])
    day = datetime.datetime(2026, 1, 1)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    made = made.not_valid_before(day).not_valid_after(day.replace(year=2027)).sign(key, hashes.SHA256())
    (sandbox.home / "kbs.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))


def trustee(sandbox: Sandbox, _soft: Guest) -> None:
    sandbox.write("admin.pub.pem", public(ed25519.Ed25519PrivateKey.generate()))


def training(sandbox: Sandbox, _soft: Guest) -> None:
    for name in ("agreement.json", "job.json", "code/train.py", "data/clinic-a/1"):
        sandbox.write(f"volume/{name}", "{}")


def gpu_hosts(sandbox: Sandbox, _soft: Guest) -> None:
    sandbox.write("tool/nvidia_gpu_tools.py", "pass\n")
    for command in (["git", "init", "-q", "."], ["git", "add", "tool"]):
        subprocess.run(command, cwd=sandbox.home, env=sandbox.environment(), check=True)


def secrets(sandbox: Sandbox, _soft: Guest) -> None:
    sandbox.write("secrets/signer.pem", private().decode())


def monitoring(sandbox: Sandbox, _soft: Guest) -> None:
    sandbox.write("eda.yml", {"attested_eda_host": "127.0.0.1", "attested_eda_port": 5010})


# By page. What is not named here begins in an empty folder.
PREPARE: t.Final[dict[str, t.Callable[[Sandbox, Guest], None]]] = {
    "docs/cca-evidence.md": lambda sandbox, _soft: sandbox.write("document.json", "{}"),
    "docs/edge.md": secrets,
    "docs/encrypted-models.md": secrets,
    "docs/fleet.md": fleet,
    "docs/gpu-hosts.md": gpu_hosts,
    "docs/key-release.md": key_release,
    "docs/monitoring.md": monitoring,
    "docs/operations.md": operations,
    "docs/planning.md": planning,
    "docs/quickstart.md": quickstart,
    "docs/sealed-secrets.md": secrets,
    "docs/bios.md": lambda sandbox, _soft: sandbox.write("bmc.password", "password-of-the-test"),
    "docs/training.md": training,
    "docs/trustee.md": trustee,
    "roles/awx/README.md": lambda sandbox, _soft: sandbox.write("awx.yml", block("roles/awx/README.md", "# awx.yml")),
}

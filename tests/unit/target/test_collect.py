# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import base64
import datetime
import hashlib
import os
import signal
import subprocess
import sys
import threading

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, CollectError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import report_data
from ansible_collections.attested.ai.plugins.module_utils.target import collect as target
from ansible_collections.attested.ai.plugins.module_utils.target import firmware_log, nscq, nvml, sev_guest, ssh_host_keys, tls, tpm, tsm
from ansible_collections.attested.ai.plugins.module_utils.target.signals import signals_as_errors
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NONCE = base64.b64encode(bytes(range(32))).decode()
KEY = {
    "kty": "EC",
    "crv": "P-256",
    "alg": "ECDH-ES+A256KW",
    "x": "QT3_slJmispaOwnAo6hxebXGLRuiveFuRCLpS4j4S4k",
    "y": "jcDn4N4nRBQ-a7_D3qjqtb6hwOAXh_ve1wvibPSi1G0",
}


class Interfaces:
    """Both interfaces of the kernel, each answering or failing as told."""

    def __init__(self, configfs=None, ioctl=None, **report):
        self.configfs_error, self.ioctl_error = configfs, ioctl
        self.report = dict(provider="sev_guest", type="sev-snp", auxblob=b"table", generation=1, privlevel=None, privlevel_floor=0, **report)
        self.asked = []

    def configfs(self, data, path, privlevel):
        self.asked.append(("configfs", data, path, privlevel))
        if self.configfs_error:
            raise CollectError("failed", code=self.configfs_error)
        return tsm.TsmReport(outblob=b"configfs report", **self.report)

    def ioctl(self, data, device, privlevel):
        self.asked.append(("ioctl", data, device, privlevel))
        if self.ioctl_error:
            raise CollectError("failed", code=self.ioctl_error)
        return sev_guest.SevGuestReport(b"ioctl report", None)

    def collect(self, **request):
        request.setdefault("nonce", NONCE)
        return target.collect(target.Request(**request), configfs=self.configfs, ioctl=self.ioctl)


def test_a_request_names_the_places_that_its_interfaces_know():
    request = target.Request(nonce=NONCE)
    assert (request.tsm_path, request.device, request.tpm_device) == (tsm.DEFAULT_PATH, sev_guest.DEFAULT_DEVICE, tpm.DEFAULT_DEVICE)
    assert (request.ssh_dir, request.event_log_path) == (ssh_host_keys.DEFAULT_DIRECTORY, firmware_log.DEFAULT_PATH)
    assert (request.nvml_library, request.nscq_library) == (nvml.DEFAULT_LIBRARY, nscq.DEFAULT_LIBRARY)


_ASKED_FOR_A_DEVICE_THAT_IS_NOT_THERE = """
import sys
from {package} import collect
print(*sys.modules)
try:
    collect.collect_all(collect.Request(nonce="{nonce}", method="ioctl", device="/does/not/exist"))
except collect.CollectError as error:
    print(*sys.modules)
"""


def test_a_guest_imports_only_what_it_is_asked_for():
    program = _ASKED_FOR_A_DEVICE_THAT_IS_NOT_THERE.format(package=target.__package__, nonce=NONCE)
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60).stdout
    inside = target.__package__ + "."
    before, after = [{name[len(inside):] for name in line.split() if name.startswith(inside)} for line in said.splitlines()]
    assert before == {"collect", "tsm", "tsm_errors"} and after == before | {"sev_guest"}


def test_the_report_is_over_the_binding():
    interfaces = Interfaces()
    document = interfaces.collect(tee_pubkey=KEY, privlevel=1)
    assert interfaces.asked == [("configfs", report_data("attested/1", NONCE, {"tee-pubkey": KEY}), tsm.DEFAULT_PATH, 1)]
    assert document.expected_report_data(bytes(range(32))) == interfaces.asked[0][1]
    assert document.to_dict() == {
        "schema": "attested.ai/evidence/1",
        "profile": "attested/1",
        "nonce": NONCE,
        "binding": {"tee-pubkey": KEY},
        "items": [
            {
                "type": "sev-snp",
                "provider": "sev_guest",
                "evidence": base64.b64encode(b"configfs report").decode(),
                "auxiliary": {"certificates": base64.b64encode(b"table").decode()},
            }
        ],
        "observations": {"collected_with": "configfs-tsm", "generation": 1, "privlevel_floor": 0},
    }


def test_levels_are_observed_where_there_are_any():
    interfaces = Interfaces()
    interfaces.report.update(privlevel=2, privlevel_floor=1, auxblob=None)
    document = interfaces.collect()
    assert document.observations == {"collected_with": "configfs-tsm", "generation": 1, "privlevel": 2, "privlevel_floor": 1}
    interfaces.report.update(privlevel=None, privlevel_floor=None, provider="tdx_guest", type="tdx")
    assert interfaces.collect().observations == {"collected_with": "configfs-tsm", "generation": 1}


def test_ssh_host_keys_are_bound_and_their_storage_observed(tmp_path):
    blob = b"\0\0\0\x0bssh-ed25519" + b"k"
    (tmp_path / "ssh_host_ed25519_key.pub").write_text("ssh-ed25519 %s\n" % base64.b64encode(blob).decode())
    document = Interfaces().collect(bind_ssh_host_keys=True, ssh_dir=str(tmp_path))
    assert document.binding.ssh_host_keys == ("SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("="),)
    assert document.observations["ssh_host_key_storage"] == "unknown"


@pytest.mark.parametrize("encoding", [serialization.Encoding.PEM, serialization.Encoding.DER])
def test_the_tls_key_is_bound(tmp_path, encoding):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "service")])
    now = datetime.datetime(2026, 1, 1)
    certificate = x509.CertificateBuilder(name, name, key.public_key(), 5, now, now + datetime.timedelta(days=9)).sign(key, hashes.SHA256())
    (tmp_path / "tls").write_bytes(b"# a comment\n" * (encoding is serialization.Encoding.PEM) + certificate.public_bytes(encoding))
    spki = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    document = Interfaces().collect(tls_certificate=str(tmp_path / "tls"))
    assert document.binding.tls_spki == "sha256:" + hashlib.sha256(spki).hexdigest()


@pytest.mark.parametrize("content", [b"", b"text", b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----", b"\x30\x03abc", b"x" * (tls.FILE_MAX + 1)])
def test_files_that_are_no_certificate(tmp_path, content):
    (tmp_path / "tls").write_bytes(content)
    with pytest.raises(AttestedError):
        tls.spki_digest(str(tmp_path / "tls"))
    with pytest.raises(CollectError):
        tls.spki_digest(str(tmp_path / "absent"))


def test_profile_kbs(tmp_path):
    (tmp_path / "ssh_host_ed25519_key.pub").write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AA==\n")
    interfaces = Interfaces()
    assert interfaces.collect(profile="kbs", tee_pubkey=KEY).profile == "kbs"
    with pytest.raises(FormatError):
        interfaces.collect(profile="kbs")
    with pytest.raises(FormatError, match="binds tee-pubkey only"):
        interfaces.collect(profile="kbs", tee_pubkey=KEY, bind_ssh_host_keys=True, ssh_dir=str(tmp_path))
    assert len(interfaces.asked) == 1


@pytest.mark.parametrize("arguments", [{"nonce": "AAAA"}, {"nonce": NONCE + "="}, {"tee_pubkey": dict(KEY, d="x")}, {"profile": "none"}])
def test_nothing_is_asked_of_the_tee_for_a_request_that_cannot_be_bound(arguments):
    interfaces = Interfaces()
    with pytest.raises(FormatError):
        interfaces.collect(**arguments)
    assert interfaces.asked == []


@pytest.mark.parametrize(
    "code,device,used",
    [("no-configfs", True, "ioctl"), ("not-a-tee", True, "ioctl"), ("not-a-tee", False, None), ("provider-busy", True, None), ("no-permission", True, None)],
)
def test_auto_falls_back_only_where_there_is_no_configfs(tmp_path, code, device, used):
    path = tmp_path / "sev-guest"
    if device:
        path.write_text("")
    interfaces = Interfaces(configfs=code)
    if used is None:
        with pytest.raises(CollectError) as caught:
            interfaces.collect(device=str(path))
        assert caught.value.code == code
    else:
        document = interfaces.collect(device=str(path), privlevel=2)
        assert document.items[0].evidence == b"ioctl report" and document.items[0].auxiliary == {}
        assert document.observations == {"collected_with": "sev-guest-ioctl", "privlevel": 2}
        assert interfaces.asked[0][1] == interfaces.asked[1][1]


def test_a_method_that_was_chosen_is_the_only_one(tmp_path):
    (tmp_path / "sev-guest").write_text("")
    interfaces = Interfaces(configfs="not-a-tee")
    with pytest.raises(CollectError):
        interfaces.collect(method="configfs", device=str(tmp_path / "sev-guest"))
    assert [step[0] for step in interfaces.asked] == ["configfs"]
    interfaces = Interfaces(ioctl="not-a-tee")
    with pytest.raises(CollectError):
        interfaces.collect(method="ioctl")
    assert [step[0] for step in interfaces.asked] == ["ioctl"]


def test_the_document_is_one_that_its_reader_accepts():
    interfaces = Interfaces()
    interfaces.report["provider"] = "x" * 65
    with pytest.raises(FormatError):
        interfaces.collect()


# --- signals ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_becomes_one_error_and_the_handlers_come_back(number):
    before = signal.getsignal(number)
    steps = []
    with pytest.raises(CollectError) as caught:
        with signals_as_errors():
            try:
                os.kill(os.getpid(), number)
                steps.append("went on")
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                steps.append("cleaned")
    assert caught.value.code == "interrupted" and number.name in str(caught.value)
    assert steps == ["cleaned"]
    assert signal.getsignal(number) is before


def test_other_threads_have_no_handlers():
    reached = []

    def run():
        with signals_as_errors():
            reached.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert reached == [signal.getsignal(signal.SIGTERM)]

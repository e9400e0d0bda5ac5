# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of collection, event logs, and guests under Azure's paravisor."""

from __future__ import annotations

import base64

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import CollectError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.formats.evidence import EvidenceItem, additional_evidence, device_nonce, report_data
from ansible_collections.attested.ai.plugins.module_utils.target import firmware_log, gpu_evidence, tsm
from ansible_collections.attested.ai.plugins.module_utils.target.collect import Interfaces, Request, collect_all

NONCE = bytes(range(32))
TEXT = base64.b64encode(NONCE).decode()
GPU = EvidenceItem("nvidia-gpu", "hopper", b"gpu report", {"certificates": b"chain"})
AZURE = EvidenceItem("az-snp-vtpm", "azure-vtpm", b"{}")


class Steps:
    """Every interface notes when it was asked, and for what; those in ``broken`` fail with a code."""

    def __init__(self, kind="sev-snp", devices=(), **broken):
        self.kind, self.items, self.broken, self.asked = kind, tuple(devices), broken, []

    def step(self, name, data):
        self.asked.append((name, data))
        if name in self.broken:
            raise CollectError("failed", code=self.broken[name])

    def configfs(self, data, path, privlevel):
        self.step("configfs", data)
        return tsm.TsmReport({"sev-snp": "sev_guest", "tdx": "tdx_guest", "cca": "arm_cca_guest"}[self.kind], self.kind, b"report", None, 1, None, None)

    def azure(self, data, device):
        self.step("azure", data)
        return AZURE

    def devices(self, nonce, *options):
        self.step("devices", nonce)
        return gpu_evidence.DeviceEvidence(self.items, tuple({"index": number} for number in range(len(self.items))))

    def collect(self, **request):
        interfaces = Interfaces(configfs=self.configfs, azure=self.azure, devices=self.devices)
        return collect_all(Request(nonce=TEXT, **{"device": "/does/not/exist", "tpm_device": "/does/not/exist", **request}), interfaces)


def test_devices_come_first_and_the_cpu_covers_them():
    steps = Steps(devices=[GPU])
    found = steps.collect(gpus="required")
    (first, nonce), (second, data) = steps.asked
    assert (first, nonce) == ("devices", device_nonce("attested/1", NONCE, {}))
    assert (second, data) == ("configfs", report_data("attested/1", NONCE, {}, additional_evidence("attested/1", [GPU])))
    assert found.document.items[1] == GPU and found.document.expected_report_data(NONCE) == data and found.devices == ({"index": 0},)


def test_without_devices_nothing_changes():
    steps = Steps()
    steps.collect()
    assert steps.asked == [("configfs", report_data("attested/1", NONCE, {}))]
    # Whoever looked and found none binds the same.
    steps.collect(gpus="auto")
    assert [name for name, _data in steps.asked[1:]] == ["devices", "configfs"] and steps.asked[2] == steps.asked[0]


def test_switches_without_gpus_are_refused_where_they_are_known():
    steps = Steps()
    steps.collect(gpus="none", switches="required")
    assert [name for name, _data in steps.asked] == ["devices", "configfs"]


def test_no_device_is_asked_for_what_cannot_be_bound():
    steps = Steps(devices=[GPU])
    with pytest.raises(FormatError):
        steps.collect(profile="kbs", gpus="required")
    assert steps.asked == []


def test_devices_that_fail_keep_the_cpu_unasked():
    steps = Steps()
    steps.broken = {"devices": "gpu-lost"}
    with pytest.raises(CollectError):
        steps.collect(gpus="required")
    assert [name for name, _data in steps.asked] == ["devices"]


@pytest.mark.parametrize(
    "kind, event_log, sent", [("tdx", "auto", True), ("tdx", "required", True), ("tdx", "none", False), ("sev-snp", "required", False), ("cca", "auto", False)]
)
def test_the_event_log_goes_with_a_td_quote(tmp_path, kind, event_log, sent):
    (tmp_path / "CCEL").write_bytes(b"events" + b"\xff" * 5000)
    found = Steps(kind).collect(event_log=event_log, event_log_path=str(tmp_path / "CCEL"))
    assert found.document.items[0].auxiliary == ({"event-log": b"events" + b"\xff" * 64} if sent else {})


def test_an_event_log_that_is_missing(tmp_path):
    assert Steps("tdx").collect(event_log_path=str(tmp_path / "none")).document.items[0].auxiliary == {}
    with pytest.raises(CollectError) as caught:
        Steps("tdx").collect(event_log="required", event_log_path=str(tmp_path / "none"))
    assert caught.value.code == "no-event-log"


def test_event_logs_that_cannot_be_read(tmp_path):
    with pytest.raises(CollectError) as caught:
        firmware_log.read(str(tmp_path))
    assert caught.value.code == "no-permission"
    (tmp_path / "large").write_bytes(bytes(firmware_log.LOG_MAX + 1))
    with pytest.raises(CollectError) as caught:
        firmware_log.read(str(tmp_path / "large"))
    assert caught.value.code == "too-large"
    (tmp_path / "empty").write_bytes(b"")
    assert firmware_log.read(str(tmp_path / "empty")) is None


def test_a_log_without_filling_is_sent_whole(tmp_path):
    for data in (b"events", b"events" + bytes(100), b"events" + b"\xff" * 10):
        (tmp_path / "log").write_bytes(data)
        assert firmware_log.read(str(tmp_path / "log")) == data


def test_azure_where_it_is_asked_for():
    steps = Steps()
    found = steps.collect(method="azure")
    assert found.document.items == (AZURE,) and found.document.observations == {"collected_with": "azure-vtpm"}
    with pytest.raises(CollectError) as caught:
        steps.collect(method="azure", privlevel=0)
    assert caught.value.code == "privlevel-refused"


@pytest.mark.parametrize(
    "broken, tpm, used, code",
    [
        ({"configfs": "no-configfs"}, True, True, None),
        ({"configfs": "not-a-tee"}, True, True, None),
        ({"configfs": "no-configfs"}, False, False, "no-configfs"),
        ({"configfs": "provider-busy"}, True, False, "provider-busy"),
        ({"configfs": "no-configfs", "azure": "not-a-tee"}, True, False, "no-configfs"),
        ({"configfs": "no-configfs", "azure": "ak-mismatch"}, True, False, "ak-mismatch"),
    ],
)
def test_auto_tries_the_tpm_last(tmp_path, broken, tpm, used, code):
    (tmp_path / "tpm").write_bytes(b"")
    path = str(tmp_path / ("tpm" if tpm else "none"))
    if used:
        assert Steps(**broken).collect(tpm_device=path).document.items == (AZURE,)
        return
    with pytest.raises(CollectError) as caught:
        Steps(**broken).collect(tpm_device=path)
    assert caught.value.code == code

# SPDX-License-Identifier: GPL-3.0-or-later
"""A gateway without a link: what its bundle permits, what ends it, and what an attacker at its disk, its clock or its mail can do."""

from __future__ import annotations

import base64
import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.edge import bundle as bundles
from ansible_collections.attested.ai.plugins.module_utils.endorsements.bundle import join, split
from ansible_collections.attested.ai.plugins.module_utils.errors import KeyReleaseError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease import chain
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwe import unwrap_general
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.keysource import load_kek
from ansible_collections.attested.ai.plugins.plugin_utils import edge_gateway
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs
from ansible_collections.attested.ai.plugins.plugin_utils.endorsement_inputs import read_endorsements
from ansible_collections.attested.ai.plugins.plugin_utils.key_source import KekSource
from edge_lab import Code, Lab


@pytest.fixture
def field(lab) -> Lab:
    """A gateway with its first bundle: two releases, 30 days."""
    for done in (lab.prepare(), lab.make(), lab.install()):
        assert done["changed"], done
    return lab


def code(answer) -> str:
    return answer.code if isinstance(answer, Code) else "done"


def test_the_whole_thread(lab):
    assert lab.prepare(check=True)["changed"] and not (lab.folder / "gw").exists()
    (lab.folder / "gw").mkdir()
    prepared = lab.prepare()
    assert prepared["changed"] and not lab.prepare()["changed"] and prepared["fingerprint"] == lab.prepare()["fingerprint"]
    assert code(lab.release()) == "edge-none" and code(lab.inspect()) == "edge-none"
    assert lab.make(check=True)["changed"] and not (lab.folder / "bundle.tar").exists() and not (lab.folder / "centre").exists()
    made = lab.make()
    assert made["sequence"] == 1 and made["edge"]["days_left"] == 30 and made["edge"]["ends_by"] == "window"
    assert not lab.later(hours=1).make()["changed"] and lab.make(uses=3, check=True)["changed"]
    assert lab.install(check=True)["changed"] and code(lab.inspect()) == "edge-none"
    assert lab.install()["changed"] and not lab.install()["changed"]
    assert lab.inspect()["edge"]["usable"] and lab.inspect()["sequence"] == 1


def test_releases_are_counted_and_end(field):
    first = field.release()
    manifest = json.loads((field.folder / "sealed" / "model-manifest.json").read_text())
    assert first["key"] == unwrap_general(manifest["dek"], load_kek(str(field.folder / "kek.jwk")).key)
    assert first["edge"]["models"] == [{"model_id": "m", "release": 1, "uses": 2, "used": 1, "uses_left": 1}]
    assert first["options"]["policy"]["id"] == "field" and read_endorsements(first["options"], Inputs()).crls == (b"a list",)
    assert field.later(days=1).release()["edge"]["days_left"] == 29
    refused = field.release()
    assert code(refused) == "edge-used-up" and "new bundle" in refused.text
    told = field.inspect()["edge"]
    assert told["models"][0]["uses_left"] == 0 and not told["usable"] and told["problems"] == []
    # The next bundle has uses of its own; the old one is never taken again.
    shutil.copy(field.folder / "bundle.tar", field.folder / "first.tar")
    assert field.make(uses=1, days=31)["sequence"] == 2 and field.install()["changed"]
    assert code(field.release()) == "done" and code(field.release()) == "edge-used-up"
    assert code(field.install("first.tar")) == "edge-older"


@pytest.mark.parametrize(("days", "wanted"), [(29.9, "done"), (30.1, "edge-expired")])
def test_the_window_ends(field, days, wanted):
    assert code(field.later(days=days).release()) == wanted
    assert (code(field.install()) == "done") == (wanted == "done")


def test_it_begins_when_it_says_and_may_lie_ready(lab):
    lab.prepare()
    lab.make(not_before="2026-11-05T00:00:00Z")
    assert lab.install()["edge"]["problems"][0]["code"] == "edge-not-yet"
    assert code(lab.release()) == "edge-not-yet" and code(lab.later(days=4).release()) == "done"


def test_collateral_that_ends_first_ends_it(lab):
    lab.prepare()
    made = lab.make(days=60)["edge"]
    assert (made["ends_by"], made["days_left"]) == ("collateral", 40)
    lab.install()
    assert code(lab.later(days=41).release()) == "edge-collateral-ended"
    assert [problem["code"] for problem in lab.inspect()["edge"]["problems"]] == ["edge-collateral-ended"]
    assert code(lab.make(days=70, dest="late.tar")) == "edge-collateral-ended"


def test_a_clock_that_was_set_back_is_noticed(field):
    assert code(field.later(days=31).release()) == "edge-expired"
    assert code(field.later(days=-10).release()) == "edge-clock-back"
    assert code(field.install()) == "edge-clock-back"
    # Check mode remembers nothing, and a second is no set-back.
    assert code(field.later(days=11).release(check=True)) == "edge-expired"


def test_the_clock_before_the_bundle_was_made(field):
    assert code(field.later(hours=-1).release()) == "edge-clock-back"
    assert code(field.later(hours=2).release()) == "done"
    # A time service moves a clock by seconds.
    assert code(field.later(seconds=-3).release()) == "done" and code(field.later(seconds=-5).release()) == "edge-clock-back"


def copied(field, name: str) -> Path:
    shutil.copytree(field.folder / "gw", field.folder / name)
    return field.folder / name


def put_back(field, kept: Path, *parts: str) -> None:
    for part in parts:
        place = field.folder / "gw" / part
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        (shutil.copytree if (kept / part).is_dir() else shutil.copy)(kept / part, place)


@pytest.mark.parametrize(
    ("lost", "wanted"),
    [
        (["ledger/ledger.jsonl"], "edge-counter-lost"),
        (["ledger/ledger.jsonl", "ledger/ledger.jsonl.head"], "edge-counter-lost"),
        (["ledger/minimum-releases.json"], "edge-counter-lost"),
        (["ledger/ledger.jsonl.head"], "ledger-head-missing"),
        (["ledger/ledger.key.pem"], "secret-missing"),
        (["state.jws"], "edge-state-lost"),
        (["gateway.key.pem"], "secret-missing"),
        (["ledger"], "secret-missing"),
    ],
)
def test_what_is_lost_is_missed(field, lost, wanted):
    assert code(field.release()) == "done"
    for part in lost:
        place = field.folder / "gw" / part
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    assert code(field.release()) == wanted
    # Nothing mends it: not preparing, not installing, not a look at it.
    assert code(field.prepare()) != "done" or lost == ["gateway.key.pem"]
    assert code(field.install()) == wanted and code(field.release()) == wanted


def test_what_is_put_back_is_noticed(field):
    kept = copied(field, "kept-0")
    assert code(field.release()) == "done"
    one = copied(field, "kept-1")
    assert code(field.release()) == "done"
    two = copied(field, "kept-2")
    put_back(field, one, "ledger")
    assert code(field.release()) == "edge-counter-rolled-back"
    put_back(field, two, "ledger")
    put_back(field, one, "state.jws")
    # An older state with the newer ledger: the ledger counts all the same.
    assert code(field.release()) == "edge-used-up"
    field.make(uses=1, days=31)
    field.install()
    assert code(field.release()) == "done"
    (field.folder / "gw" / "state.jws").unlink()
    shutil.copy(kept / "state.jws", field.folder / "gw" / "state.jws")
    assert code(field.release()) == "edge-state-rolled-back" and code(field.install()) == "edge-state-rolled-back"


def test_all_of_it_put_back_is_noticed_at_the_centre_and_by_the_next_bundle(field):
    """Whoever puts back the whole directory is not seen by the gateway itself."""
    kept = copied(field, "kept")
    assert code(field.release()) == "done" and code(field.release()) == "done"
    assert field.report("exported", gateway="gw", signer="centre.pub")["count"] == 2
    assert field.report("received", centre="centre", name="plant-1")["count"] == 2
    shutil.rmtree(field.folder / "gw")
    shutil.copytree(kept, field.folder / "gw")
    assert code(field.later(hours=1).release()) == "done"
    assert field.report("exported", gateway="gw", signer="centre.pub")["count"] == 1
    assert code(field.report("received", centre="centre", name="plant-1")) == "edge-report-forked"
    assert field.make()["sequence"] == 2
    assert code(field.install()) == "edge-counter-rolled-back"


def test_a_changed_installation_is_noticed_and_installed_again(field):
    for name, damage in (("bundle-", b"x"), ("collateral-", b"x")):
        (path,) = (field.folder / "gw").glob(name + "*")
        path.write_bytes(path.read_bytes() + damage)
        assert code(field.release()) == "edge-changed" and code(field.inspect()) == "edge-changed"
        assert field.install()["changed"] and code(field.inspect()) == "done"
    assert code(field.release()) == "done"


def test_another_signer_another_gateway(field):
    assert code(field.install(signer="other.pub")) == "edge-signature"
    assert code(field.make(dest="foreign.tar", signing_key="other.pem", uses=9)) == "done"
    assert code(field.install("foreign.tar")) == "edge-signature"
    field.prepare("gw2", "plant-2")
    field.make("gw2", "two.tar")
    assert code(field.install("two.tar")) == "edge-other-gateway"
    # A gateway of the same name with other keys: the centre asks, and the bundle does not fit.
    field.prepare("gw3", "plant-1")
    assert code(field.make("gw3", "three.tar")) == "edge-card-changed" and code(field.install(gateway="gw3")) == "edge-other-gateway"
    assert code(field.bundle("inspected", bundle="two.tar", signer="centre.pub")) == "done"
    assert code(field.prepare("gw", "plant-9")) == "edge-other-gateway"


def test_the_same_number_with_other_content_is_refused(field):
    record = field.folder / "centre" / "plant-1" / "record.json"
    record.write_text(record.read_text().replace('"sequence":1', '"sequence":0'))
    (field.folder / "bundle.tar").unlink()
    assert field.make(uses=99)["sequence"] == 1 and code(field.install()) == "edge-older" and code(field.make(sequence=1)) == "format"
    assert field.make(uses=99, sequence=7)["sequence"] == 7 and field.install()["changed"]


def _changed(members, name, change):
    return [(path, change(data) if path == name else data) for path, data in members]


def _with_link(data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in split(data):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        entry = tarfile.TarInfo("policy.json")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    return out.getvalue()


HOSTILE = {
    "cut": (lambda data: data[: len(data) // 2], "edge-format"),
    "cut-in-a-block": (lambda data: data[:-700], "edge-format"),
    "nothing": (lambda data: b"", "edge-format"),
    "no-archive": (lambda data: b"\0" * 5120, "edge-format"),
    "something-behind": (lambda data: data + b"\1" * 512, "edge-format"),
    "member-twice": (lambda data: join([*split(data), split(data)[2]]), "edge-format"),
    "one-more": (lambda data: join([*split(data), ("more.json", b"{}")]), "edge-format"),
    "one-less": (lambda data: join(split(data)[:-1]), "edge-format"),
    "another-policy": (lambda data: join(_changed(split(data), "policy.json", lambda text: text.replace(b"field", b"weak"))), "edge-format"),
    "another-key": (lambda data: join(_changed(split(data), "models/0/key.jwe", lambda text: text.replace(b"a", b"b", 1))), "edge-format"),
    "more-uses": (lambda data: join(_changed(split(data), "edge.json", lambda text: text.replace(b'"uses": 2', b'"uses": 3'))), "edge-signature"),
    "longer": (lambda data: join(_changed(split(data), "edge.json", lambda text: text.replace(b"2026-12-01", b"2027-12-01"))), "edge-signature"),
    "names-twice": (lambda data: join(_changed(split(data), "edge.jws", lambda text: text.replace(b"{", b'{"signature":"",', 1))), "edge-signature"),
    "order": (lambda data: join(sorted(split(data), reverse=True)), "edge-format"),
    "link": (_with_link, "edge-format"),
}


@pytest.mark.parametrize("case", sorted(HOSTILE))
def test_hostile_bundles(field, case):
    spoil, wanted = HOSTILE[case]
    state = (field.folder / "gw" / "state.jws").read_bytes()
    (field.folder / "hostile.tar").write_bytes(spoil((field.folder / "bundle.tar").read_bytes()))
    answer = field.install("hostile.tar")
    assert code(answer) == wanted and len(answer.text) < 600
    assert (field.folder / "gw" / "state.jws").read_bytes() == state and code(field.release()) == "done"


def test_what_is_no_file_or_too_large_is_not_read(field):
    (field.folder / "folder").mkdir()
    with open(field.folder / "huge.tar", "wb") as stream:
        stream.truncate(bundles.BUNDLE_MAX + 1)
    assert code(field.install("folder")) == "edge-file" and code(field.install("huge.tar")) == "edge-format" and code(field.install("none.tar")) == "edge-file"


class Cut(Exception):
    pass


@pytest.mark.parametrize("moment", range(6))
def test_a_power_cut_never_gives_a_key_uncounted(field, monkeypatch, moment):
    """Cut at each write of a release: afterwards it either did not happen, or it is counted."""
    count = [0]

    def cutting(function):
        def act(*arguments, **more):
            count[0] += 1
            if count[0] > moment:
                raise Cut
            return function(*arguments, **more)

        return act

    field.later(minutes=1)
    with monkeypatch.context() as patched:
        patched.setattr(edge_gateway, "replace_file", cutting(edge_gateway.replace_file))
        for name in ("replace_file", "_write"):
            patched.setattr(chain, name, cutting(getattr(chain, name)))
        try:
            handed_over = code(field.release()) == "done"
        except Cut:
            handed_over = False
    used = field.inspect()["edge"]["models"][0]["used"]
    assert used >= handed_over and (moment < 5 or handed_over)
    assert [code(field.release()) for _time in range(3 - used)] == ["done"] * (2 - used) + ["edge-used-up"]


def test_a_cut_while_installing_leaves_the_old_bundle_or_the_new(field, monkeypatch):
    field.make(uses=5)
    count = [0]
    for moment in range(3):
        count[0] = 0

        def cutting(path, data, limit=moment, write=edge_gateway.replace_file):
            count[0] += 1
            if count[0] > limit:
                raise Cut
            write(path, data)

        with monkeypatch.context() as patched:
            patched.setattr(edge_gateway, "replace_file", cutting)
            with pytest.raises(Cut):
                field.install()
        assert field.inspect()["sequence"] == 1
    assert field.install()["sequence"] == field.inspect()["sequence"] == 2
    assert len(list((field.folder / "gw").glob("bundle-*"))) == len(list((field.folder / "gw").glob("collateral-*"))) == 1


def test_reports_join_at_the_centre_and_gaps_are_noticed(field):
    field.make(uses=9, dest="bundle.tar")
    field.install()
    export, receive = {"gateway": "gw", "signer": "centre.pub"}, {"centre": "centre", "name": "plant-1"}
    assert field.report("exported", **export)["count"] == 0 and field.report("received", **receive)["count"] == 0
    assert code(field.release()) == "done"
    assert field.report("exported", check=True, **export)["changed"] and field.report("exported", **export)["changed"]
    assert not field.report("exported", **export)["changed"]
    assert field.report("received", check=True, **receive)["changed"]
    got = field.report("received", **receive)
    assert got["changed"] and got["count"] == 1 and got["findings"] == [] and "edge-bundle: plant-1 2" in got["entries"][0]["reasons"]
    assert not field.report("received", **receive)["changed"]
    shutil.copy(field.folder / "report.tar", field.folder / "older.tar")
    for _time in range(3):
        field.release()
    assert field.report("exported", since=3, **export)["count"] == 1
    gap = field.report("received", **receive)
    assert code(gap) == "edge-report-gap" and "since: 1" in gap.text
    assert field.report("exported", since=1, **export)["count"] == 3 and field.report("received", **receive)["count"] == 4
    assert code(field.report("received", **{**receive, "report": "older.tar"})) == "edge-report-older"
    assert code(field.report("exported", since=9, **export)) == "edge-since"
    # The bundle after that knows what came back, and the next report begins there.
    assert field.make(uses=9)["sequence"] == 3 and field.install()["changed"] and field.report("exported", **export)["since"] == 4


def test_reports_that_are_changed_or_of_others(field):
    field.release()
    field.report("exported", gateway="gw", signer="centre.pub")
    receive = {"centre": "centre", "name": "plant-1"}
    whole = (field.folder / "report.tar").read_bytes()
    for spoil, wanted in (
        (lambda data: data[:-512], "edge-report-format"),
        (lambda data: join(_changed(split(data), "ledger.jsonl", lambda text: text[:-5])), "edge-report-format"),
        (lambda data: join(_changed(split(data), "report.json", lambda text: text.replace(b"plant-1", b"plant-2"))), "edge-report-signature"),
        (lambda data: join(split(data)[:3]), "edge-report-format"),
    ):
        (field.folder / "report.tar").write_bytes(spoil(whole))
        assert code(field.report("received", **receive)) == wanted
    (field.folder / "report.tar").write_bytes(whole)
    assert code(field.report("received", centre="centre", name="plant-7")) == "edge-unknown"
    # A grant that was smaller than what was released is told, and taken all the same.
    record = field.folder / "centre" / "plant-1" / "record.json"
    record.write_text(record.read_text().replace('"m":2', '"m":0'))
    assert [finding["code"] for finding in field.report("received", **receive)["findings"]] == ["edge-overused"]


def test_no_secret_leaves_the_centre(field):
    key = field.release()["key"]
    kek = load_kek(str(field.folder / "kek.jwk")).key
    needles = [form for secret in (key, kek) for form in (secret, secret.hex().encode(), base64.b64encode(secret), base64.urlsafe_b64encode(secret)[:43])]
    field.report("exported", gateway="gw", signer="centre.pub")
    places = [field.folder / "bundle.tar", field.folder / "report.tar", *(path for path in (field.folder / "gw").rglob("*") if path.is_file())]
    assert [str(path) for path in places if any(needle in path.read_bytes() for needle in needles)] == []
    assert {oct(path.stat().st_mode & 0o077) for path in (field.folder / "gw").rglob("*")} == {"0o0"}


def test_options_that_would_not_count_are_refused(field):
    assert code(field.release(policy="policy.yml")) == code(field.release(at="2026-01-31T12:00:00Z")) == code(field.release(ledger="x")) == "edge-option"
    with pytest.raises(KeyReleaseError, match="no key-encryption key"):
        KekSource(None, {"source": "edge", "gateway": "gw", "signer": "centre.pub", "model_id": "m"})

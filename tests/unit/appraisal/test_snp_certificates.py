# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Among the certificates of a whole fleet the right one is found, and each is read once however many reports there are."""

from __future__ import annotations

import pytest
from ansible_collections.attested.ai.plugins.module_utils.appraisal import snp_certificates
from ansible_collections.attested.ai.plugins.module_utils.appraisal.context import Endorsements
from ansible_collections.attested.ai.plugins.module_utils.appraisal.snp_certificates import candidates, sort_certificates
from softtee.snp_report import DEFAULT_TCB, build_report

NONE = sort_certificates(())
NEW, OLD = DEFAULT_TCB["genoa"], dict(DEFAULT_TCB["genoa"], microcode=83)


def chip(number):
    return bytes([number]) * 64


@pytest.fixture(scope="module")
def leaves(soft):
    made = {(number, name): soft.vcek("genoa", chip(number), tcb)[1] for number in (1, 2, 3) for name, tcb in (("new", NEW), ("old", OLD))}
    return {**made, "vlek": soft.vlek("genoa", tcb=NEW)[1], "ask": soft.intermediate_der("genoa", "vcek")}


def report(number, tcb=NEW, signing_key="vcek"):
    return bytes(build_report("genoa", chip_id=chip(number), reported_tcb=tcb, signing_key=signing_key))


def test_the_certificate_of_chip_and_tcb_comes_first(leaves):
    every = Endorsements(certificates=tuple(leaves.values()))
    for number in (1, 2, 3):
        for name, tcb in (("new", NEW), ("old", OLD)):
            found, path = candidates(report(number, tcb), NONE, every)
            assert found[0] == leaves[number, name] and path == (leaves["ask"],)
            assert set(found) == {leaves[number, "new"], leaves[number, "old"], leaves["vlek"]}


def test_a_vlek_comes_first_for_a_report_that_names_one(leaves):
    found, _path = candidates(report(1, signing_key="vlek"), NONE, Endorsements(certificates=tuple(leaves.values())))
    assert found[0] == leaves["vlek"]


def test_what_came_along_counts_as_well(leaves):
    own = sort_certificates((leaves[2, "new"], leaves["ask"]))
    assert candidates(report(2), own, Endorsements()) == ([leaves[2, "new"]], (leaves["ask"],))


def test_without_a_certificate_of_the_chip_another_is_tried_so_that_there_is_something_to_tell(leaves):
    found, _path = candidates(report(9), NONE, Endorsements(certificates=(leaves[1, "new"], leaves[2, "new"], leaves[3, "new"])))
    assert found == [leaves[1, "new"], leaves[2, "new"]]


def test_what_cannot_be_read_is_tried_last(leaves):
    broken = leaves[1, "new"].replace(b"\x2b\x06\x01\x04\x01\x9c\x78\x01\x01", b"\x2b\x06\x01\x04\x01\x9c\x78\x02\x01")
    assert broken != leaves[1, "new"]
    found, _path = candidates(report(2), NONE, Endorsements(certificates=(broken, leaves[2, "new"])))
    assert found == [leaves[2, "new"], broken]


@pytest.mark.parametrize("evidence", [b"", b"\0" * 1183, b"\xff" * 2000])
def test_malformed_reports_get_candidates_too(evidence, leaves):
    assert candidates(evidence, NONE, Endorsements(certificates=(leaves[1, "new"],)))[0] == [leaves[1, "new"]]
    assert candidates(evidence, NONE, Endorsements()) == ([], ())


def test_a_fleet_reads_each_certificate_once(leaves, monkeypatch):
    read = []
    original = snp_certificates.parse_certificate
    monkeypatch.setattr(snp_certificates, "parse_certificate", lambda der: read.append(der) or original(der))
    every = Endorsements(certificates=tuple(leaves.values()))
    for _guest in range(5):
        for number in (1, 2, 3):
            candidates(report(number), NONE, every)
    assert len(read) == len(leaves) - 1

# SPDX-License-Identifier: GPL-3.0-or-later
"""TCB evaluation: levels, their order, convergence, relaunch; also against a second opinion where one is installed."""

from __future__ import annotations

import itertools
import json

import pytest
import tdx_lab as t
from cryptography.hazmat.primitives.serialization import Encoding
from tdx_lab import AT, lab

from ansible_collections.attested.ai.plugins.module_utils.formats.tcb_info import STATUSES
from ansible_collections.attested.ai.plugins.module_utils.verify.cache import VerificationCache
from ansible_collections.attested.ai.plugins.module_utils.verify.tdx import UNCHECKED, verify_tdx
from ansible_collections.attested.ai.plugins.module_utils.verify.tdx_tcb import converge

OLD = (2, 2, 2, 2, 2, 1, 0, 2) + (0,) * 8
CACHE = VerificationCache()


def svn(*first):
    return bytes(first) + bytes(16 - len(first))


def judge(info=None, identity=None, body=None, version=4, qe=None):
    of = lab()
    return verify_tdx(of.quote(body, version, qe=qe), [of.collateral(info, identity)], of.roots(), AT, UNCHECKED, CACHE)


def status(*arguments, **options):
    found = judge(*arguments, **options)
    assert found.authentic is True
    return found.claims.tcb_status


# What Intel's library makes of a platform's status with a module or quoting enclave that is out of date.
BELOW = {
    "UpToDate": "OutOfDate", "SWHardeningNeeded": "OutOfDate", "ConfigurationNeeded": "OutOfDateConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded": "OutOfDateConfigurationNeeded", "OutOfDate": "OutOfDate",
    "OutOfDateConfigurationNeeded": "OutOfDateConfigurationNeeded",
    "Revoked": "Revoked",
}  # fmt: skip


@pytest.mark.parametrize("platform", STATUSES)
def test_every_status(platform):
    info = t.tcb_info(tcbLevels=[t.level(platform, advisories=("INTEL-SA-00001",))])
    found = judge(info)
    assert (found.claims.tcb_status, found.claims.tcb.platform_status, found.failed) == (platform, platform, ())
    assert status(info, body=t.td_report(svn=svn(6, 1, 6))) == BELOW[platform]
    assert status(info, qe={"isvsvn": 2}) == BELOW[platform]
    both = judge(info, body=t.td_report(svn=svn(6, 1, 6)), qe={"isvsvn": 2}).claims
    assert both.tcb_status == BELOW[platform] and both.advisory_ids == ("INTEL-SA-00001", "INTEL-SA-99002", "INTEL-SA-99003")


def test_convergence_does_not_depend_on_the_order_and_never_improves():
    for statuses in itertools.product(STATUSES, repeat=3):
        found = {converge(order) for order in itertools.permutations(statuses)}
        assert len(found) == 1
        assert (found == {"UpToDate"}) is (set(statuses) == {"UpToDate"})
        assert ("Revoked" in found) is ("Revoked" in statuses)


def test_revoked_module_and_enclave():
    assert status(t.tcb_info(tdxModuleIdentities=[t.module(1, [t.svn_level(8, "Revoked")])])) == "Revoked"
    assert status(identity=t.qe_identity(tcbLevels=[t.svn_level(4, "Revoked")])) == "Revoked"


def test_levels_may_stand_in_any_order():
    info = t.tcb_info()
    info["tcbLevels"].reverse()
    info["tdxModuleIdentities"][1]["tcbLevels"].reverse()
    identity = t.qe_identity()
    identity["tcbLevels"].reverse()
    assert status(info, identity) == "UpToDate"


@pytest.mark.parametrize("index", range(16))
def test_every_sgx_component_counts(index):
    wanted = list(t.COMPONENTS)
    wanted[index] += 1
    info = t.tcb_info(tcbLevels=[t.level(sgx=wanted), t.level("OutOfDate", (0,) * 16, 0, (0,) * 16)])
    assert status(info) == "OutOfDate"


@pytest.mark.parametrize("index", range(16))
def test_tdx_components_of_a_module_with_a_version_count_from_the_third(index):
    wanted = [0] * 16
    wanted[index] = 200
    info = t.tcb_info(tcbLevels=[t.level(tdx=wanted), t.level("OutOfDate", (0,) * 16, 0, (0,) * 16)])
    assert status(info) == ("UpToDate" if index < 2 else "OutOfDate")
    # A module of version 0 is judged with the platform, by all components.
    assert status(info, body=t.td_report(svn=svn(8, 0, 6))) == "OutOfDate"


def test_version_0_has_no_status_of_its_own():
    found = judge(body=t.td_report(svn=svn(8, 0, 6))).claims
    assert (found.tcb_status, found.tcb.module_status, found.tcb.module_identity) == ("UpToDate", None, None)


def test_pcesvn_and_no_level():
    info = t.tcb_info(tcbLevels=[t.level(pcesvn=14), t.level("OutOfDate", pcesvn=13)])
    assert status(info) == "OutOfDate"
    found = judge(t.tcb_info(tcbLevels=[t.level(pcesvn=14)]))
    assert (found.failed, found.authentic, found.claims.tcb_status) == (("tcb-not-supported",), True, None)
    assert found.claims.tcb.qe_status == "UpToDate"


def test_platform_old_and_module_new():
    found = judge(body=t.td_report(svn=svn(8, 1, 3))).claims
    assert (found.tcb_status, found.tcb.platform_status, found.tcb.module_status) == ("OutOfDate", "OutOfDate", "UpToDate")
    assert found.tcb_date.year == 2024


def relaunch(now, platform="UpToDate", launched=(6, 1, 6), qe=None, info=None):
    info = info or t.tcb_info(tcbLevels=[t.level(platform)])
    return status(info, body=t.td_report(svn=svn(*launched), svn_2=svn(*now)), version=5, qe=qe)


def test_relaunch():
    for platform in ("UpToDate", "SWHardeningNeeded"):
        assert relaunch((8, 1, 6), platform) == "TDRelaunchAdvised"
    for platform in ("ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded"):
        assert relaunch((9, 1, 7), platform) == "TDRelaunchAdvisedConfigurationNeeded"
    assert judge(body=t.td_report(svn=svn(6, 1, 6), svn_2=svn(8, 1, 6)), version=5).claims.relaunch_advised


@pytest.mark.parametrize(("options", "wanted"), [
    ({"now": (7, 1, 6)}, "OutOfDate"), ({"now": (8, 1, 5)}, "OutOfDate"), ({"now": (8, 3, 6)}, "OutOfDate"),
    ({"now": (8, 1, 6), "platform": "OutOfDate"}, "OutOfDate"),
    ({"now": (8, 1, 6), "platform": "Revoked"}, "Revoked"), ({"now": (8, 1, 6), "qe": {"isvsvn": 2}}, "OutOfDate"),
    ({"now": (8, 1, 6), "launched": (8, 1, 6)}, "UpToDate"),
    ({"now": (8, 1, 6), "info": t.tcb_info(tdxModuleIdentities=[t.module(1, [t.svn_level(8, "OutOfDate"), t.svn_level(6, "OutOfDate")])])}, "OutOfDate"),
])  # fmt: skip
def test_no_relaunch(options, wanted):
    assert relaunch(**options) == wanted


def test_no_relaunch_for_tdx_1_0():
    assert status(body=t.td_report(svn=svn(6, 1, 6)), version=5) == "OutOfDate"


def test_second_opinion():
    """dcap-qvl over synthetic platforms: where it gives a status, it is ours. What it does not judge as we do is left out."""
    qvl = pytest.importorskip("dcap_qvl", reason="dcap-qvl is not installed: no second opinion")
    of = lab()
    root = of.root.public_bytes(Encoding.DER)
    compared = 0
    for platform, module, qe, launched in itertools.product(STATUSES[:6], STATUSES[:6:4], STATUSES[:6:4], ((8, 1, 6), (8, 3, 6), (6, 1, 6), (8, 1, 3))):
        info = t.tcb_info(tcbLevels=[t.level(platform), t.level("OutOfDate", OLD, 5, (3, 0, 2) + (0,) * 13)],
                          tdxModuleIdentities=[t.module(3, [t.svn_level(3)]), t.module(1, [t.svn_level(8, module), t.svn_level(6, "OutOfDate")])])  # fmt: skip
        collateral = of.collateral(info, t.qe_identity(tcbLevels=[t.svn_level(4, qe)]))
        quote = of.quote(t.td_report(svn=svn(*launched)))
        ours = verify_tdx(quote, [collateral], of.roots(), AT, UNCHECKED, CACHE)
        document = qvl.QuoteCollateralV3.from_json(collateral.decode())
        theirs = qvl.verify_with_root_ca(quote, document, root, int(AT.timestamp()))
        assert ours.authentic is True and ours.claims.tcb_status == theirs.status, json.dumps([platform, module, qe, launched])
        assert set(ours.claims.advisory_ids) == set(theirs.advisory_ids)
        compared += 1
    assert compared == 96

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The TDX modules that Intel has published, by build number.

A Python table and not JSON: what a module on a target imports is packed by following its imports, and data files are left behind.

Source: the release pages of github.com/intel/confidential-computing.tdx.tdx-module, as of August 2026. The kernel's log has the build number
even where it names the version as 1.5 only. 1.5.06 and 2.0.05 exist, but their release texts are not known; 2.0.14 has the date as it was published.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, FrozenSet, Optional


@dataclass(frozen=True)
class TdxModule:
    """``date`` is YYYYMMDD, ``svn`` the minor SVN, ``mrseam`` the SHA-384 of the module as reports carry it (hex), ``cpus`` short names of CPU lines."""

    version: str
    date: str
    build: int
    svn: int
    cpus: FrozenSet[str]
    mrseam: str


def _row(version: str, date: str, build: int, svn: int, cpus: str, mrseam: str) -> TdxModule:
    return TdxModule(version, date, build, svn, frozenset(cpus.split()), mrseam)


_MODULES = (
    _row("1.5.01", "20231008", 595, 0x04, "SPR EMR", "9790d89a10210ec6968a773cee2ca05b5aa97309f36727a968527be4606fc19e6f73acce350946c9d46a9bf7a63f8430"),
    _row("1.5.05", "20240129", 698, 0x05, "SPR EMR SRF", "1cc6a17ab799e9a693fac7536be61c12ee1e0fabada82d0c999e08ccee2aa86de77b0870f558c570e7ffe55d6d47fa04"),
    _row("1.5.08", "20240725", 784, 0x07, "SPR EMR SRF", "49b66faa451d19ebbdbe89371b8daf2b65aa3984ec90110343e9e2eec116af08850fa20e3b1aa9a874d77a65380ee7e6"),
    _row("1.5.09", "20240912", 813, 0x08, "SPR EMR SRF", "bfb360ac8e6233a1bca1433caf7382d95c165b4a77fb00bf1435e5a08f300cdfead5ee68461afd9b6c728dce7534602d"),
    _row("1.5.13", "20250210", 864, 0x0A, "SPR EMR SRF", "27b67e0b20508f0acfb8a99df4283a7c86ae569d85d556a91d4eb20e56b5d42d5e65b31a3a6996e8e461f104f32fdeec"),
    _row("1.5.16", "20250221", 869, 0x0B, "SPR EMR SRF", "7bf063280e94fb051f5dd7b1fc59ce9aac42bb961df8d44b709c9b0ff87a7b4df648657ba6d1189589feab1d5a3c9a9d"),
    _row("1.5.20", "20250531", 920, 0x0C, "SPR EMR SRF", "d0d80c085166ba78ccc69af268e5753cf0f3394523cb4ff7c50b08d9265c82489c099c377be6a400e4d2b57da924012c"),
    _row("1.5.24", "20250729", 943, 0x0D, "SPR EMR", "489e585f1c54bc5a02066c8c6ec21619ff0334ec6f21e07e2a35202c59183789c8057e7d97dd591bb08314b185819e72"),
    _row("1.5.28", "20251126", 989, 0x0E, "SPR EMR SRF", "346bc77a1846cac214dd2e8edeb9ee4349449d6c3f9ff2c52149a634c27b7fd1bd314c2ef6b973eeebd55742952531a1"),
    _row("1.5.34", "20260330", 1024, 0x0F, "SPR EMR SRF", "ab62561a173acbd18ee50ff37750db44184c6cf5e886df74247cc575e163b04c34b9e18374757c235affa614d4127f6b"),
    _row("2.0.02", "20240814", 786, 0x03, "GNR", "685f891ea5c20e8fa27b151bf34bf3b50fbaf7143cc53662727cbdb167c0ad8385f1f6f3571539a91e104a1c96d75e04"),
    _row("2.0.04", "20250116", 859, 0x04, "GNR", "64cae497e0c6221176fe8d3bc9d0cf25b4c97bb24cc16499f77102451f15bb24249f1aa3e5d3bf8897be74ad6c84e648"),
    _row("2.0.08", "20250402", 882, 0x05, "GNR", "476a2997c62bccc78370913d0a80b956e3721b24272bc66c4d6307ced4be2865c40e26afac75f12df3425b03eb59ea7c"),
    _row("2.0.12", "20250605", 924, 0x06, "GNR", "87bdf50356b95e264a5d0807016b9b8ab7568d0857d27eddbe847f98184a786e0f3eecf2fabd3b6d23f71f2ae50300f4"),
    _row("2.0.14", "20260425", 947, 0x07, "GNR", "aef4ed3e686fe6cf44c9a8d1cc63105443b558ac4f40c282abf78271e9a4586c50408c8584c7b43fd21edb736700ba5f"),
    _row("2.0.16", "20251204", 994, 0x08, "GNR", "f40772d82608da5443887dd7247be3e0092927e62409a9bb8da98eaed9017704be075466a13d3ca30501000d69407495"),
    _row("2.0.18", "20260211", 1013, 0x09, "GNR CWF", "2d2de102461684f14c8d0984a09d895e3e9e15944ce020a03b977e1f114d5e1ed32ef666a47fd19a5851b3800eda3afa"),
)

BY_BUILD: Dict[int, TdxModule] = {module.build: module for module in _MODULES}
BY_MRSEAM: Dict[str, TdxModule] = {module.mrseam: module for module in _MODULES}
NEWEST = {"1.5": "1.5.34", "2.0": "2.0.18"}


def identify(build: int) -> Optional[TdxModule]:
    """The published module with that build number, None for all others."""
    return BY_BUILD.get(build)

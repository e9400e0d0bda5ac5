# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Groups of hosts by what their last attestation said."""

from __future__ import annotations

DOCUMENTATION = r"""
name: attested
short_description: Hosts in groups by what their last attestation said
version_added: 0.1.0
author: attested.ai contributors (@attested-ai)
description:
  - Reads the results that the role P(attested.ai.attestation_monitor#role) or M(attested.ai.attest) keep, and puts each host into groups by TEE, state,
    anchor and the days for which what the result rests on still holds.
  - A good result counts only if a key in O(public_keys) or O(jwks) signed it, if it is no older than O(max_age_hours), and if nothing that it rests on has
    ended. A bad one counts from anybody. What is not signed, or damaged, or signed for another host, makes a host C(unproven), never affirming.
  - Records of the monitor name their host under the signature. An EAR names none, so that whoever may rename files in the folder can give one guest the EAR
    of another. Prefer the records.
  - The configuration file is called C(attested.yml), or its name ends in C(.attested.yml).
  - With a cache it is the content of the results that is cached. State and age are made anew from the clock in each run.
extends_documentation_fragment:
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
options:
  plugin:
    description: The name of this plugin.
    required: true
    choices: [attested.ai.attested]
  results:
    description:
      - Folders or files with results, relative to the configuration file. A file is named for its host, C(<host>.jws) for records of the monitor,
        C(<host>.jwt) or C(<host>.ear) for EARs, C(<host>.json) for what C(result_file) of M(attested.ai.attest) writes.
      - Of several for one host the proven ones count, and of these the newest.
    type: list
    elements: path
    required: true
  public_keys:
    description: Public keys of those who sign results, JWKs or paths of files with a JWK or PEM, relative to the configuration file.
    type: list
    elements: raw
    default: []
  jwks:
    description: A JWK set, or the path of a file with one, relative to the configuration file. It adds to O(public_keys).
    type: raw
  max_age_hours:
    description: After so many hours a result is stale.
    type: float
    default: 24.0
  expiry_days:
    description: For each number of days there is a group of hosts for which something that the result rests on ends within so many days.
    type: list
    elements: int
    default: [7, 30]
  group_prefix:
    description: How the names of the groups begin.
    type: str
    default: attested_
  expect:
    description:
      - Groups of inventories that were read before this one. Hosts in them without a result get the state C(missing).
    type: list
    elements: str
    default: []
  at:
    description: The time to judge by in RFC 3339, for archives and tests. The default is the controller's clock.
    type: str
"""

EXAMPLES = r"""
# fleet.attested.yml
plugin: attested.ai.attested
results: [/var/lib/attested/monitor/results]
public_keys: [/etc/attested/monitor.pub.pem]
max_age_hours: 6
expect: [guests]
# ansible-playbook -i hosts.yml -i fleet.attested.yml --limit 'attested_state_affirming' serve.yml
---
# Groups of your own.
plugin: attested.ai.attested
results: [results]
public_keys: [monitor.pub.pem]
keyed_groups:
  - prefix: policy
    key: attested_policy
compose:
  serve: attested_state == 'affirming' and attested_anchor == 'vendor'
groups:
  firmware_behind: (attested_tcb_distance or 0) > 0
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: /tmp/attested-inventory
"""

import dataclasses
import hashlib
import os
import typing as t
from datetime import timedelta

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

from ansible_collections.attested.ai.plugins.module_utils.appraisal import jws
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError, FormatError
from ansible_collections.attested.ai.plugins.module_utils.fleet import record, standing
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.plugin_utils import fleet_store
from ansible_collections.attested.ai.plugins.plugin_utils.appraisal_inputs import Inputs, evaluation_time
from ansible_collections.attested.ai.plugins.plugin_utils.fleet_hosts import groups_of, load, store, variables_of
from ansible_collections.attested.ai.plugins.plugin_utils.public_key import read_public_key


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    NAME = "attested.ai.attested"

    def verify_file(self, path: str) -> bool:
        name = os.path.basename(path)
        return super().verify_file(path) and (name in ("attested.yml", "attested.yaml") or name.endswith((".attested.yml", ".attested.yaml")))

    def parse(self, inventory: t.Any, loader: t.Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        self.load_cache_plugin()
        try:
            self._fill(self._found(path, cache))
        except AttestedError as error:
            raise AnsibleParserError(f"{path}: {error}") from None

    def _found(self, path: str, cache: bool) -> list[record.Kept]:
        """What is kept, from the cache if that was made with the same keys."""
        base = os.path.dirname(os.path.realpath(path))
        trusted = self._trusted(base)
        places = [os.path.join(base, os.path.expanduser(place)) for place in self.get_option("results")]
        asked = hashlib.sha256("\0".join([*places, *sorted(key.thumbprint for key in trusted)]).encode()).hexdigest()
        name = self.get_cache_key(path)
        use, cached = bool(self.get_option("cache")), None
        if use and cache:
            cached = self._cache.get(name)
        if isinstance(cached, dict) and cached.get("asked") == asked:
            return [load(one) for one in cached.get("kept", [])]
        kept = [one for place in places for one in self._read(place, trusted)]
        if use:
            self._cache[name] = {"asked": asked, "kept": [store(one) for one in kept]}
        return kept

    def _read(self, place: str, trusted: t.Sequence[jws.TrustedKey]) -> t.Iterator[record.Kept]:
        for path in fleet_store.files_of(place):
            name = os.path.basename(path)
            try:
                data = fleet_store.read_file(path)
            except FormatError as error:
                yield record.Kept(record.host_of(name), None, False, str(error))
                continue
            # Gone between the listing and now: as if it had not been there.
            if data is not None:
                yield record.read_kept(data, name, trusted)

    def _trusted(self, base: str) -> tuple[jws.TrustedKey, ...]:
        inputs = Inputs(lambda path: os.path.join(base, os.path.expanduser(path)))
        keys = [read_public_key(key, inputs) for key in self.get_option("public_keys")]
        jwks = self.get_option("jwks")
        if isinstance(jwks, str):
            jwks = strict.loads(inputs.read(jwks, "jwks"), f"jwks {jwks}")
        found = jws.parse_jwks({"keys": keys}) if keys else ()
        return (*found, *(jws.parse_jwks(jwks) if jwks is not None else ()))

    def _fill(self, kept: t.Sequence[record.Kept]) -> None:
        now, max_age = evaluation_time(self.get_option("at")), timedelta(hours=self.get_option("max_age_hours"))
        steps, prefix, severe = self.get_option("expiry_days"), self.get_option("group_prefix"), self.get_option("strict")
        if max_age <= timedelta(0) or not all(step > 0 for step in steps):
            raise FormatError("max_age_hours and expiry_days must be more than 0", where="options")
        best: dict[str, record.Kept] = {}
        for one in kept:
            best[one.host] = max(best.get(one.host, one), one, key=_rank)
        expected = {host for group in self.get_option("expect") if group in self.inventory.groups for host in self._members(group)}
        for host in expected - set(best):
            best[host] = record.Kept(host, None, False, "")
        for host, one in sorted(best.items()):
            where = standing.standing(one, now, max_age)
            if one.summary is None and not one.problem:
                where = dataclasses.replace(where, state=standing.MISSING, why="there is no result of it")
            self.inventory.add_host(host)
            variables = variables_of(one, where)
            for name, value in variables.items():
                self.inventory.set_variable(host, name, value)
            for group in groups_of(one, where, steps):
                self.inventory.add_child(self.inventory.add_group(self._sanitize_group_name(prefix + group)), host)
            self._set_composite_vars(self.get_option("compose"), variables, host, strict=severe)
            self._add_host_to_composed_groups(self.get_option("groups"), variables, host, strict=severe)
            self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host, strict=severe)

    def _members(self, group: str) -> list[str]:
        return [host.name for host in self.inventory.groups[group].get_hosts()]


def _rank(one: record.Kept) -> tuple[bool, bool, float]:
    return one.proven, one.summary is not None, one.summary.evaluated_at.timestamp() if one.summary is not None else 0.0

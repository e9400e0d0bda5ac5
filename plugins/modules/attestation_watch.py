#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: attestation_watch
short_description: Keep the results of a fleet, tell drift, and decide what is to be done
version_added: 0.1.0
description:
  - Takes what M(attested.ai.attest) registered for all hosts, keeps it in one folder, compares each result with the last that was accepted, and says which
    hosts need an alert, quarantine, revocation of their keys, or may come back. It does none of these. The role
    P(attested.ai.attestation_monitor#role) does them, and reports what was done with O(operation=settle).
  - A bad round is forgotten only after O(rules.recover_after) good ones in a row, so that a host that comes and goes does not flap. What shall be done stays
    wanted until it was settled.
  - Runs once for all hosts of the play, on the controller. Every file is replaced in one step, and one run at a time is at work on the folder.
author:
  - attested.ai contributors (@attested-ai)
extends_documentation_fragment:
  - attested.ai.attributes
  - attested.ai.attributes.actiongroup_ai
  - attested.ai.attributes.controller
attributes:
  check_mode:
    support: full
    details: Decides in the same way and writes nothing, no metrics either.
  diff_mode:
    support: none
  idempotent:
    support: full
    details: A result that was counted is not counted again. A host without a result counts as missed in each run.
requirements:
  - cryptography >= 38 on the controller, with O(signing_key)
options:
  operation:
    description:
      - V(observe) takes in one round. V(settle) notes what was done. V(history) returns the events. V(fleet) returns all that is kept of all hosts, for a
        report, and changes nothing.
      - V(forget) drops all that is kept and remembered of O(hosts), for hosts that are gone, and to trust one again whose keys were revoked.
    type: str
    choices: [observe, settle, forget, fleet, history]
    default: observe
  directory:
    description: Folder on the controller with C(results), C(evidence), C(forecast), C(state.json) and C(history.jsonl). Made when missing.
    type: path
    required: true
  hosts:
    description:
      - Names of the hosts of this round, usually C(ansible_play_hosts_all). One without a result counts as missed. For V(history) a filter.
      - It may be a part of the fleet. What is kept of the others stays, in the metrics too.
    type: list
    elements: str
    default: []
  variable:
    description: Name of the variable that M(attested.ai.attest) registered on each host.
    type: str
    default: attestation
  signing_key:
    description:
      - EC private key (P-256 or P-384, PEM, mode 0600) on the controller. With it the record of each host is signed together with the name of the host.
      - Without it the records prove nothing to others, and the inventory plugin P(attested.ai.attested#inventory) calls such hosts unproven.
    type: path
  rules:
    description: Numbers of rounds after which something is to be done. V(0) means never.
    type: dict
    default: {}
    suboptions:
      alert_after:
        description: Bad rounds before an alert.
        type: int
        default: 1
      quarantine_after:
        description: Bad rounds before quarantine.
        type: int
        default: 2
      revoke_after:
        description: Bad rounds before keys are revoked. Nothing brings them back by itself.
        type: int
        default: 0
      missing_after:
        description: Rounds in a row without an answer before an alert.
        type: int
        default: 2
      quarantine_missing_after:
        description: Rounds in a row without an answer before quarantine.
        type: int
        default: 0
      recover_after:
        description: Good rounds in a row after which what was bad is forgotten. At least 1.
        type: int
        default: 3
      release:
        description: Whether a host that has recovered leaves quarantine by itself.
        type: bool
        default: false
      alert_on:
        description: Kinds of drift between accepted results that are worth an alert.
        type: list
        elements: str
        choices: [verdict, anchor, items, machine, device, measurement, chain, tcb-lower, tcb-raised, tcb-status, firmware, policy, ssh-host-keys]
        default: [anchor, items, machine, device, measurement, chain, tcb-lower, tcb-status]
      bad_on:
        description: Kinds of drift that make a round bad although the policy accepts the evidence.
        type: list
        elements: str
        choices: [verdict, anchor, items, machine, device, measurement, chain, tcb-lower, tcb-raised, tcb-status, firmware, policy, ssh-host-keys]
        default: [anchor, items]
  quarantine_variable:
    description:
      - Name of the host variable that says how to put the host into quarantine. Where it is empty, RV(hosts[].no_means) says so.
      - So it does for the way back where a step C(command) has no C(release_argv), or a step C(http) no C(release_url).
    type: str
    default: attestation_monitor_quarantine
  revoke_variable:
    description: Name of the host variable that says which keys to revoke.
    type: str
    default: attestation_monitor_revoke
  max_age_hours:
    description: After so many hours a result is stale.
    type: float
    default: 24.0
  keep_evidence:
    description: Whether to keep the evidence too, for C(operation=forecast) of M(attested.ai.collateral) and for audits.
    type: bool
    default: true
  history_max:
    description: So many events are kept, the last.
    type: int
    default: 10000
  metrics_file:
    description:
      - File for Prometheus's textfile collector. Its name must end in C(.prom) for node_exporter to read it.
      - If it cannot be written the task fails, with all that it returns and what was counted kept, so that a play may still act on RV(todo).
    type: path
  forecast:
    description:
      - What M(attested.ai.collateral) returned with C(operation=forecast), for the metrics. It is kept by host, in place of what was foretold of the hosts of
        this round that gave evidence. Guests that the monitor does not know are left out.
      - With V(fleet) what it says of no host, C(horizon_end) and C(collateral_ending), is taken over.
    type: dict
  settled:
    description: What was done, for V(settle).
    type: list
    elements: dict
    default: []
    suboptions:
      host:
        description: The host.
        type: str
        required: true
      act:
        description: What was done.
        type: str
        choices: [alert, quarantine, revoke, release]
        required: true
      detail:
        description: A sentence for the history.
        type: str
        default: ""
  at:
    description: The time of this round in RFC 3339, for tests. The default is the controller's clock.
    type: str
seealso:
  - module: attested.ai.attest
  - module: attested.ai.collateral
  - plugin: attested.ai.attested
    plugin_type: inventory
"""

EXAMPLES = r"""
- name: Attest
  attested.ai.attest:
    policy: policy.yml
    reference_values: reference-values.yml
    fail_on_refusal: false
  register: attestation
  ignore_errors: true
  ignore_unreachable: true

- name: Keep it, and see what is to be done
  attested.ai.attestation_watch:
    directory: /var/lib/attested/monitor
    hosts: "{{ ansible_play_hosts_all }}"
    signing_key: /etc/attested/monitor.pem
    metrics_file: /var/lib/prometheus/node-exporter/attested.prom
  register: round

- name: Note that the alerts were delivered
  attested.ai.attestation_watch:
    operation: settle
    directory: /var/lib/attested/monitor
    settled: "{{ round.todo | selectattr('act', 'equalto', 'alert') }}"
  when: round.todo | selectattr('act', 'equalto', 'alert') | length > 0
"""

RETURN = r"""
hosts:
  description: One row per host of the round, with V(fleet) per host that is remembered, and then without C(acts), C(no_means) and C(news).
  returned: operation=observe and fleet
  type: list
  elements: dict
  contains:
    host:
      description: Its name.
      type: str
      sample: guest1
    outcome:
      description: V(good) (accepted), V(bad) (refused, or it could not be judged or read) or V(missing).
      type: str
      sample: bad
    state:
      description: V(affirming), V(warning), V(contraindicated), V(stale), V(unproven) or V(missing), as the inventory plugin would say.
      type: str
      sample: contraindicated
    why:
      description: Why it is not affirming.
      type: str
      sample: "policy-debug: debugging is on"
    condition:
      description: V(ok), V(failing) or V(missing), after the counters of O(rules).
      type: str
      sample: failing
    acts:
      description: What is to be done, in this order.
      type: list
      elements: str
      sample: [alert, quarantine]
    no_means:
      description: What ought to be done, and nobody said how.
      type: list
      elements: str
      sample: []
    changes:
      description: What differs from the last accepted result, each with C(kind), C(item), C(what), C(before) and C(after).
      type: list
      elements: dict
      sample: [{kind: verdict, item: "", what: status, before: affirming, after: contraindicated}]
    distance:
      description: Steps that the TCB in use lacks.
      type: int
      sample: 0
    days:
      description: Days until the first of what the result rests on ends.
      type: int
      sample: 21
    quarantined:
      description: Whether the host is in quarantine.
      type: bool
      sample: false
    revoked:
      description: Whether its keys were revoked.
      type: bool
      sample: false
todo:
  description: All acts of all hosts, each with C(host) and C(act), as O(settled) takes them.
  returned: operation=observe
  type: list
  elements: dict
  sample: [{host: guest1, act: alert}]
counts:
  description: Number of hosts by outcome.
  returned: operation=observe
  type: dict
  sample: {good: 998, bad: 1, missing: 1}
events:
  description: What is new in this round.
  returned: operation=observe
  type: list
  elements: dict
  sample: [{at: "2026-11-28T12:00:00Z", host: guest1, event: failing, state: contraindicated, detail: "policy-debug: debugging is on", changes: []}]
history:
  description: All events that are kept, oldest first.
  returned: operation=observe, settle, fleet and history
  type: list
  elements: dict
  sample: []
runs:
  description: One per host that is remembered, as the role P(attested.ai.report#role) takes them, with the whole result that is kept.
  returned: operation=fleet
  type: list
  elements: dict
  sample: [{name: guest1, host: guest1, step: attest, ok: false, detail: "timed out"}]
forecast:
  description: One forecast over all hosts that anything was foretold of, in the form that M(attested.ai.collateral) returns.
  returned: operation=fleet
  type: dict
  sample: {forecast: [], guests_at_risk: [], recoveries: [], collateral_ending: [], horizon_end: "", msg: "0 of 2 guests would be refused"}
metrics:
  description: The metrics as text.
  returned: operation=observe
  type: str
  sample: "attested_round_hosts{outcome=\"good\"} 998"
metrics_problem:
  description: Why O(metrics_file) could not be written, empty if it was. The task has failed then, and all else that it returns holds.
  returned: operation=observe
  type: str
  sample: ""
files:
  description: Paths that were written, or would be, relative to O(directory).
  returned: operation=observe
  type: list
  elements: str
  sample: [results/guest1.jws, state.json]
forgotten:
  description: Hosts of O(hosts) of which anything was kept or remembered until now. In check mode what would be dropped.
  returned: operation=forget
  type: list
  elements: str
  sample: [guest1]
code:
  description: A stable word for the reason of a failure.
  returned: failure
  type: str
  sample: fleet-state-damaged
"""

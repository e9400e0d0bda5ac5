# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What AWX shall hold, as lists of options of the modules of awx.awx, under the names that the roles of infra.aap_configuration read."""

from __future__ import annotations

import typing as t

from ansible_collections.attested.ai.plugins.module_utils.awx.survey import survey
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError

Table = t.Mapping[str, t.Any]
TARGET: t.Final = {"type": "str", "description": "Hosts or groups to work on"}
# From AWX's side this is text; ansible-core evaluates it in the job, where the file is.
_READ: t.Final = "{{ lookup('ansible.builtin.file', lookup('ansible.builtin.env', '%s')) }}"
_PATH: t.Final = "{{ lookup('ansible.builtin.env', '%s') }}"


def pack(data: Table, settings: Table, specifications: Table) -> dict[str, list[dict[str, t.Any]]]:
    """All objects. ``specifications`` are options of roles by the names of roles. Raises AttestedError."""
    _check_names(data, settings)
    _check_revoke(data, settings)
    organization = settings["organization"]
    found: dict[str, list[dict[str, t.Any]]] = {
        "aap_organizations": [{"name": organization, "description": "Confidential AI infrastructure"}] if settings["organization_create"] else [],
        "controller_credential_types": [credential_type(one) for one in data["credential_types"].values()],
        "controller_execution_environments": _environment(settings),
        "controller_projects": [_project(settings)],
        "controller_inventories": [{"name": settings["inventory"], "organization": organization, "description": "The fleet, and groups by attested state"}],
        "controller_inventory_sources": _sources(settings),
        "controller_templates": [template(name, data, settings, specifications) for name in data["templates"]],
        "controller_workflows": [workflow(data, settings)],
        "controller_schedules": _schedules(data, settings),
    }
    return found


def _check_names(data: Table, settings: Table) -> None:
    """A name that is none would be left out without a word: a node would work on all hosts, a template would lack its variables."""
    targets = [one["id"] for one in data["workflow"]["nodes"] if not one.get("approval") and one["id"] != "revoke"]
    for name, known in (
        ("credentials", data["credential_types"]),
        ("template_variables", data["templates"]),
        ("questions", data["templates"]),
        ("workflow_targets", targets),
    ):
        unknown = sorted(set(settings[name]) - set(known))
        if unknown:
            raise AttestedError("nothing is called %s" % ", ".join(unknown), where="awx_%s" % name, fix="Known are %s" % ", ".join(known))


def _check_revoke(data: Table, settings: Table) -> None:
    """A node that names no resources has nothing to revoke, and the workflow has none but this one for a failure."""
    if not settings["workflow_revoke"]:
        return
    given = _variables("revoke", data, settings)
    for name in ("decommission_resources", "decommission_kbs"):
        value = given.get(name)
        # What stands in braces is known to the job alone.
        kind: type = list if name == "decommission_resources" else dict
        if not value or not (isinstance(value, kind) or (isinstance(value, str) and "{{" in value)):
            raise AttestedError(
                "it names hosts, and the variables of the template revoke have no %s: nothing would be revoked" % name,
                where="awx_workflow_revoke",
                fix="Set awx_template_variables: {revoke: {decommission_kbs: {...}, decommission_resources: [default/key/...]}}",
            )


def _variables(name: str, data: Table, settings: Table) -> dict[str, t.Any]:
    # What makes a template what it is (revoke: keys alone) is not widened by variables of all jobs.
    return {**settings["variables"], **data["templates"][name].get("variables", {}), **settings["template_variables"].get(name, {})}


def credential_type(described: Table) -> dict[str, t.Any]:
    """A type whose secrets AWX puts into files for the job; the environment holds their paths, never a secret."""
    fields = [{"type": "string", "label": one["label"], **one} for one in described["fields"]]
    several = len(fields) > 1
    files = {f"template.{name}" if several else "template": "{{ %s }}" % name for name in described["environment"].values()}
    paths = {variable: "{{ tower.filename%s }}" % (f".{name}" if several else "") for variable, name in described["environment"].items()}
    return {
        "name": described["name"],
        "description": described["description"],
        "kind": "cloud",
        "inputs": {"fields": fields, "required": [one["id"] for one in fields]},
        "injectors": {"file": files, "env": paths},
    }


def template(name: str, data: Table, settings: Table, specifications: Table) -> dict[str, t.Any]:
    """One job template."""
    described = data["templates"][name]
    kinds = [kind for kind in described.get("credentials", []) if settings["credentials"].get(kind)]
    variables: dict[str, t.Any] = {}
    for kind in kinds:
        variables.update({variable: _READ % path for variable, path in data["credential_types"][kind]["contents"].items()})
        variables.update({variable: _PATH % path for variable, path in data["credential_types"][kind]["paths"].items()})
    options: dict[str, t.Any] = {}
    for role in described.get("roles", []):
        # Required by the role, yet perhaps said by the inventory.
        options.update({option: {**spec, "required": False} for option, spec in specifications[role].items()})
    own = dict(described.get("options", {}))
    target = described.get("target", True)
    if target:
        own = {"target": {**TARGET, "required": target == "required"}, **own}
    ask = [*own, *described.get("ask", data["ask"] if options else []), *settings["questions"].get(name, [])]
    asked = survey(name, {**options, **own}, ask, without=variables)
    extra = {**_variables(name, data, settings), **variables}
    return {
        "name": _name(settings, name),
        "description": described["description"],
        "organization": settings["organization"],
        "job_type": "run",
        "inventory": settings["inventory"],
        "project": settings["project"],
        "playbook": "playbooks/%s.yml" % described.get("playbook", name),
        "credentials": [*settings["machine_credentials"], *(settings["credentials"][kind] for kind in kinds)],
        "forks": settings["forks"],
        "job_slice_count": settings["slices"] if described.get("slices") else 1,
        "extra_vars": extra,
        # A check job looks at what would be done.
        "ask_job_type_on_launch": True,
        "ask_diff_mode_on_launch": True,
        "ask_tags_on_launch": bool(described.get("prompt_tags", False)),
        # What a survey does not ask for, nobody who may only launch can set.
        "ask_variables_on_launch": False,
        "survey_enabled": bool(asked["spec"]),
        # AWX refuses a survey without a question.
        **({"survey_spec": asked} if asked["spec"] else {}),
        **({"execution_environment": settings["execution_environment"]} if settings["execution_environment"] else {}),
    }


def workflow(data: Table, settings: Table) -> dict[str, t.Any]:
    """From machines to a served model, with a person between the verdict and the keys."""
    described = data["workflow"]
    # Only groups that were named for it lose their keys when something fails.
    revoke = settings["workflow_revoke"]
    nodes = described["nodes"]
    known = {one["id"] for one in nodes if revoke or one["id"] != "revoke"}
    organization = {"name": settings["organization"]}
    made = []
    for one in nodes:
        if one.get("approval"):
            job: dict[str, t.Any] = {**described["approval"], "type": "workflow_approval", "timeout": settings["approval_timeout"]}
        else:
            job = {"name": _name(settings, one["template"]), "type": "job_template", "organization": organization}
        if one["id"] not in known:
            # Left from before it would have no parent any more, be a root, and run at once.
            made.append({"identifier": one["id"], "unified_job_template": job, "state": "absent"})
            continue
        target = revoke if one["id"] == "revoke" else settings["workflow_targets"].get(one["id"], "")
        answers = {"target": target} if target else {}
        if one["id"] == "revoke":
            answers["decommission_confirm"] = target
        related = {f"{kind}_nodes": [{"identifier": name} for name in one.get(kind, []) if name in known] for kind in ("success", "failure")}
        made.append(
            {
                "identifier": one["id"],
                "unified_job_template": job,
                # One failure is enough for revoking.
                "all_parents_must_converge": False,
                **({"extra_data": answers} if answers else {}),
                "related": {**related, "always_nodes": [], "credentials": []},
            }
        )
    return {
        "name": _name(settings, described["name"]),
        "description": "Preflight, provision, attest; after an approval release keys and serve; revoke keys if that fails",
        "organization": settings["organization"],
        "inventory": settings["inventory"],
        "ask_variables_on_launch": False,
        "allow_simultaneous": False,
        "workflow_nodes": made,
    }


def _name(settings: Table, name: str) -> str:
    return "%s %s" % (settings["prefix"], name.replace("_", " "))


def _environment(settings: Table) -> list[dict[str, t.Any]]:
    if not settings["execution_environment_image"]:
        return []
    image = settings["execution_environment_image"]
    return [{"name": settings["execution_environment"], "image": image, "organization": settings["organization"], "pull": "missing"}]


def _project(settings: Table) -> dict[str, t.Any]:
    return {
        "name": settings["project"],
        "organization": settings["organization"],
        "scm_type": "git",
        "scm_url": settings["project_url"],
        "scm_branch": settings["project_branch"],
        "scm_update_on_launch": settings["project_update_on_launch"],
        "allow_override": False,
        **({"signature_validation_credential": settings["project_signature"]} if settings["project_signature"] else {}),
    }


def _sources(settings: Table) -> list[dict[str, t.Any]]:
    """The hosts first; what attestation said of them on top, anew before each job."""
    wanted = (("hosts", settings["inventory_hosts_path"]), ("attested state", settings["inventory_state_path"]))
    return [
        {
            "name": _name(settings, name),
            "inventory": settings["inventory"],
            "organization": settings["organization"],
            "source": "scm",
            "source_project": settings["inventory_project"],
            "source_path": path,
            "overwrite": True,
            "update_on_launch": True,
            "update_cache_timeout": settings["inventory_cache_seconds"],
            **({"execution_environment": settings["execution_environment"]} if settings["execution_environment"] else {}),
        }
        for name, path in wanted
        if path
    ]


def _schedules(data: Table, settings: Table) -> list[dict[str, t.Any]]:
    """Without a rule there is none, also where there was one."""
    return [
        {
            "name": _name(settings, one["name"]),
            "unified_job_template": _name(settings, one["template"]),
            "organization": settings["organization"],
            **({"rrule": settings[one["rrule"]], "enabled": True} if settings[one["rrule"]] else {"state": "absent"}),
        }
        for one in data["schedules"]
    ]

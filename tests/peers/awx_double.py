# SPDX-License-Identifier: GPL-3.0-or-later
"""As much of AWX's interface as the modules of awx.awx ask for, on loopback. It shows what our side sends; about AWX it proves nothing."""

from __future__ import annotations

import http.server
import json
import re
import threading
import urllib.parse

KINDS = {
    "organizations": "organization", "credential_types": "credential_type", "credentials": "credential", "execution_environments": "execution_environment",
    "projects": "project", "inventories": "inventory", "inventory_sources": "inventory_source", "job_templates": "job_template",
    "workflow_job_templates": "workflow_job_template", "workflow_job_template_nodes": "workflow_job_template_node", "schedules": "schedule",
    "workflow_approval_templates": "workflow_approval",
}  # fmt: skip
UNIFIED = ("job_templates", "projects", "inventory_sources", "workflow_job_templates", "workflow_approval_templates")
LINKS = ("credentials", "success_nodes", "failure_nodes", "always_nodes")


class Double:
    def __init__(self) -> None:
        self.stored: dict[str, dict[int, dict]] = {kind: {} for kind in KINDS}
        self.surveys: dict[int, dict] = {}
        self.links: dict[tuple[str, int, str], list[int]] = {}
        self.writes: list[str] = []
        self.last = 0

    def add(self, kind: str, /, **fields) -> dict:
        self.last += 1
        url = f"/api/v2/{kind}/{self.last}/"
        related = {name: f"{url}{name}/" for name in (*LINKS, "survey_spec")}
        item = {"id": self.last, "type": KINDS[kind], "url": url, "related": related, "summary_fields": {}, **fields}
        if kind == "job_templates" and "project" in fields:
            item["organization"] = self.stored["projects"][fields["project"]]["organization"]
        if kind == "projects":
            item.update(status="successful", scm_revision="0" * 40)
        self.stored[kind][self.last] = item
        return item

    def named(self, kind: str, name: str) -> dict:
        return next(one for one in self.stored[kind].values() if one["name"] == name)

    def answer(self, method: str, path: str, query: dict, body: dict) -> tuple[int, object]:
        parts = path.removeprefix("/api/v2/").strip("/").split("/")
        if method != "GET":
            self.writes.append(f"{method} {path}")
        if parts[0] == "unified_job_templates":
            found = [one for kind in UNIFIED for one in self.stored[kind].values()]
            if len(parts) == 2:
                return 200, next(one for one in found if one["id"] == int(parts[1]))
            return 200, self.page(found, query)
        if parts[0] not in self.stored:
            return (200, {}) if parts[0] in ("ping", "config", "") else (404, {})
        if len(parts) == 1:
            return (201, self.add(parts[0], **body)) if method == "POST" else (200, self.page(self.stored[parts[0]].values(), query))
        number = int(parts[1])
        if number not in self.stored[parts[0]]:
            return 404, {}
        item = self.stored[parts[0]][number]
        if len(parts) == 2:
            if method == "DELETE":
                del self.stored[parts[0]][number]
                # As AWX: what belongs to it goes with it.
                for kind, field in (("schedules", "unified_job_template"), ("workflow_job_template_nodes", "workflow_job_template")):
                    self.stored[kind] = {one: fields for one, fields in self.stored[kind].items() if fields.get(field) != number}
                return 204, None
            item.update(body if method == "PATCH" else {})
            return 200, item
        return self.part(method, parts[0], item, parts[2], body)

    def part(self, method: str, kind: str, item: dict, name: str, body: dict) -> tuple[int, object]:
        if name == "survey_spec":
            if method == "POST":
                assert {"name", "description", "spec"} == set(body) and body["spec"], body
                self.surveys[item["id"]] = body
            return 200, self.surveys.get(item["id"], {})
        if name == "create_approval_template":
            made = self.add("workflow_approval_templates", **body)
            item["unified_job_template"] = made["id"]
            item["related"]["unified_job_template"] = made["url"]
            return 201, made
        linked = self.links.setdefault((kind, item["id"], name), [])
        if method == "POST":
            linked.remove(body["id"]) if body.get("disassociate") else linked.append(body["id"])
            return 204, None
        pool = self.stored["credentials" if name == "credentials" else kind]
        return 200, self.page([pool[one] for one in linked if one in pool], {})

    @staticmethod
    def page(items, query: dict) -> dict:
        filters = {name: value for name, value in query.items() if name not in ("page_size", "page", "order_by")}
        found = [one for one in items if all(str(one.get(re.sub("^or__", "", name))) == value for name, value in filters.items())]
        return {"count": len(found), "next": None, "previous": None, "results": found}


def serve(double: Double) -> http.server.ThreadingHTTPServer:
    class Handler(http.server.BaseHTTPRequestHandler):
        def reply(self) -> None:
            if self.headers.get("Authorization") != "Bearer token-of-the-test":
                status, found = 401, {}
            else:
                where = urllib.parse.urlsplit(self.path)
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or b"{}")
                status, found = double.answer(self.command, where.path, dict(urllib.parse.parse_qsl(where.query)), body)
            data = b"" if found is None else json.dumps(found).encode()
            self.send_response(status)
            for name, value in (("Content-Type", "application/json"), ("X-API-Product-Name", "AWX"), ("X-API-Product-Version", "24.6.1")):
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = reply

        def log_message(self, *_arguments) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server

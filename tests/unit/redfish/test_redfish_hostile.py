# SPDX-License-Identifier: GPL-3.0-or-later
"""A service that lies, breaks or points elsewhere: our errors only, no credentials to anybody else, and no machine changed by accident."""

from __future__ import annotations

import gzip
import json
import ssl
import threading
from pathlib import Path

import pytest
from ansible_collections.attested.ai.plugins.module_utils.errors import RedfishError
from ansible_collections.attested.ai.plugins.module_utils.redfish import answers
from ansible_collections.attested.ai.plugins.module_utils.redfish.client import Client, Credentials, Dropped, Patience
from ansible_collections.attested.ai.plugins.module_utils.redfish.machine import attributes, discover
from ansible_collections.attested.ai.plugins.module_utils.redfish.planner import plan
from ansible_collections.attested.ai.plugins.module_utils.redfish.registry import parse_registry
from ansible_collections.attested.ai.plugins.module_utils.redfish.resolve import Want
from ansible_collections.attested.ai.plugins.module_utils.redfish.wire import BODY_MAX, Address, Request, Response, make_opener, parse_address, tls_context
from bmc.server import Service
from bmc_support import Clock, bring, client_of, desired, service
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.costly
WORDS = (
    "AttributeName Type Value ValueName Attributes Dependencies ReadOnly LowerBound "
    "Dependency MapFrom MapFromAttribute MapFromCondition MapToProperty MapToAttribute MapToValue"
).split()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
    max_leaves=30,
)


@pytest.mark.parametrize("action", ["garbage", "wrong-types", "error"])
@pytest.mark.parametrize("model", ["dell-snp", "hpe-snp"])
def test_nonsense_at_any_request_is_one_of_our_errors_or_overcome(model: str, action: str) -> None:
    whole = Service(model)
    bring(whole, None, desired("snp"))
    for number in range(1, len(whole.requests) + 1):
        running = Service(model)
        running.faults.add(action, nth=number)
        try:
            bring(running, None, desired("snp"))
        except RedfishError as error:
            assert error.code.startswith("redfish-"), number
        # Whatever was said, what is set is what was wanted or what was there.
        for name, value in running.machine.current.items():
            assert value in (whole.machine.current[name], running.machine.attributes[name].default), (number, name)
        running.faults.clear()
        bring(running, None, desired("snp"))
        assert running.machine.current == whole.machine.current, number


@pytest.mark.parametrize("place", ["/Systems", "/Systems/1", "/Bios", "/Registries", "/settings"])
def test_a_redirection_to_another_host_gets_nothing(place: str, tmp_path: Path) -> None:
    with service("hpe-snp") as running, service("hpe-snp") as other:
        running.faults.add("redirect", "GET", place, value=f"https://{other.address}/redfish/v1/Systems", times=99)
        with pytest.raises(RedfishError, match="points to 'https://.*Give that address as baseuri") as caught:
            bring(running, tmp_path, desired("snp"))
        assert caught.value.code == "redfish-redirect" and other.requests == [] and not running.sessions


def test_a_redirection_of_a_change_is_not_followed_anywhere(tmp_path: Path) -> None:
    with service("hpe-snp") as running, service("hpe-snp") as other:
        running.faults.add("redirect", "PATCH", value=f"https://{other.address}/redfish/v1/Systems/1/Bios/settings")
        with pytest.raises(RedfishError):
            bring(running, tmp_path, desired("snp"))
        running.faults.add("redirect", "PATCH", value="/redfish/v1/Systems/1/Bios/settings")
        with pytest.raises(RedfishError, match="PATCH is answered with 307"):
            bring(running, tmp_path, desired("snp"))
        assert other.requests == [] and not running.machine.pending


def test_a_redirection_on_the_same_host_is_followed_for_reading(tmp_path: Path) -> None:
    with service("hpe-snp") as running:
        running.faults.add("redirect", "GET", "/redfish/v1/Systems", value="/redfish/v1/Systems/")
        bring(running, tmp_path, desired("snp"))
        running.faults.add("redirect", "GET", "/redfish/v1/Systems", value="/redfish/v1/Systems", times=99)
        with pytest.raises(RedfishError, match="again and again"):
            bring(running, tmp_path, desired("snp"))


@pytest.mark.parametrize(
    "link", ["https://evil.example/redfish/v1/x", "//evil.example/x", "redfish/v1/x", "/a b", "/a\r\nX: y", "/\\evil.example", "/" + "x" * 3000, 7, None]
)
def test_links_stay_on_the_controller(link: object) -> None:
    with pytest.raises(RedfishError, match="does not stay on this controller.*Nothing was sent there"):
        answers.checked_path(link, "bmc")


def test_the_place_of_a_session_is_used_on_this_controller_only(tmp_path: Path) -> None:
    with service("hpe-snp") as running, service("hpe-snp") as other:

        def elsewhere(opener):
            def send(request):
                answer = opener(request)
                location = answer.headers.get("location", "").replace(running.address, other.address)
                return Response(answer.status, {**answer.headers, "location": location}, answer.body)

            return send

        bring(running, tmp_path, desired("snp"), wrap=elsewhere)
        assert running.sessions == {} and other.requests == []


def test_an_answer_without_end_is_cut_off(tmp_path: Path) -> None:
    with service("hpe-snp") as running:
        running.faults.add("huge", "GET", "/Systems")
        with pytest.raises(RedfishError, match="larger than"):
            bring(running, tmp_path, desired("snp"))


def opener_that_says(*bodies: bytes, **headers: str):
    said = list(bodies)

    def send(request: Request) -> Response:
        return Response(200, headers, said.pop(0) if len(said) > 1 else said[0])

    return send


def alone(opener, **options: object) -> Client:
    clock = Clock()
    return Client(opener, Credentials("admin", "hidden-one"), "bmc", "basic", Patience(**options), clock=clock, sleep=clock.sleep, jitter=lambda: 0.0)


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b"\xff\xfe", b"{", b"[" * 100000, b'"text"', b"null"])
def test_what_is_no_json_object_is_told(body: bytes) -> None:
    with pytest.raises(RedfishError) as caught:
        alone(opener_that_says(body)).get("/redfish/v1/")
    assert caught.value.code == "redfish-answer"


def test_a_small_archive_that_unpacks_to_much_is_cut_off(tmp_path: Path) -> None:
    with service("hpe-snp") as running:
        bomb = gzip.compress(json.dumps({"RegistryEntries": {"Attributes": [], "x": "y" * (BODY_MAX + 10)}}).encode())
        assert len(bomb) < 100_000
        real = running.answer

        def answer(method, target, raw, headers):
            found = real(method, target, raw, headers)
            return type(found)(200, bomb, {"Content-Encoding": "gzip"}) if target.endswith("/file") else found

        running.answer = answer
        with pytest.raises(RedfishError, match="larger than"):
            bring(running, tmp_path, desired("snp"))


def test_a_service_that_trickles_is_given_up_on(tmp_path: Path) -> None:
    with service("hpe-snp") as running:
        (tmp_path / "ca.pem").write_bytes(running.certificate)
        real, given_up = running.answer, threading.Event()

        def answer(*request):
            given_up.wait(30)
            return real(*request)

        running.answer = answer
        opener = make_opener(Address("https", running.host, running.port), tls_context(True, str(tmp_path / "ca.pem")), 0.5)
        with pytest.raises(TimeoutError):
            opener(Request("GET", "/redfish/v1"))
        given_up.set()


def test_another_certificate_gets_no_password(tmp_path: Path) -> None:
    with service("hpe-snp") as running, service("hpe-snp") as other:
        other.certificate, certificate = running.certificate, other.certificate
        for auth in ("session", "basic"):
            with pytest.raises(RedfishError, match="certificate is not accepted.*ca_path") as caught:
                bring(other, tmp_path, desired("snp"), auth=auth)
            assert caught.value.code == "redfish-tls" and other.requests == []
        other.certificate = certificate
        bring(other, tmp_path, desired("snp"))
        assert tls_context(True).verify_mode is ssl.CERT_REQUIRED and tls_context(True).check_hostname


def test_a_password_is_never_in_an_error_or_in_what_a_client_shows(tmp_path: Path) -> None:
    with service("hpe-snp") as running:
        with pytest.raises(RedfishError) as caught, client_of(running, tmp_path, password="hidden-one"):
            pass
        assert "hidden-one" not in str(caught.value) and caught.value.code == "redfish-login"
        assert "hidden-one" not in repr(Credentials("admin", "hidden-one"))


@pytest.mark.parametrize("text", ["", "ftp://bmc", "bmc/path", "https://u:p@bmc", "bmc:port", "https://bmc?x", "http://bmc", "https://["])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(RedfishError) as caught:
        parse_address(text)
    assert caught.value.code == "redfish-address"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("bmc7", "https://bmc7:443"),
        ("192.0.2.7:8443", "https://192.0.2.7:8443"),
        ("[2001:db8::7]", "https://[2001:db8::7]:443"),
        ("https://bmc7/redfish/v1/", "https://bmc7:443"),
    ],
)
def test_addresses(text: str, address: str) -> None:
    assert str(parse_address(text)) == address


def test_a_busy_service_is_waited_for_as_long_as_it_asks_and_not_longer() -> None:
    said = [
        Response(429, {"retry-after": "7"}, b""),
        Response(503, {}, b""),
        Response(503, {"retry-after": "Tue, 14 Nov 2023 22:13:40 GMT"}, b""),
        Response(200, {}, b"{}"),
    ]
    client = alone(lambda request: said.pop(0))
    client.get("/redfish/v1/")
    assert client._sleep.__self__.slept == [7.0, 1.0, 12.0]
    with pytest.raises(RedfishError, match="asks for a pause of 3600 seconds, 60 are allowed"):
        alone(lambda request: Response(429, {"retry-after": "3600"}, b"")).get("/redfish/v1/")
    with pytest.raises(Dropped, match="it is busy .429., 3 times"):
        alone(lambda request: Response(429, {}, b""), attempts=3).post("/redfish/v1/x", {})


def test_a_change_is_sent_once_and_a_question_several_times() -> None:
    asked = []

    def dead(request: Request) -> Response:
        asked.append(request.method)
        raise ConnectionResetError(104, "Connection reset by peer")

    client = alone(dead, attempts=4)
    for call in (lambda: client.get("/redfish/v1/"), lambda: client.patch("/redfish/v1/x", {}, ""), lambda: client.post("/redfish/v1/x", {})):
        with pytest.raises(Dropped, match="Connection reset by peer"):
            call()
    assert asked == ["GET"] * 4 + ["PATCH", "POST"]


def test_an_etag_goes_back_as_it_came_and_one_that_is_none_does_not() -> None:
    seen = []

    def send(request: Request) -> Response:
        seen.append(request.headers.get("If-Match"))
        return Response(200, {"etag": 'W/"7"'} if len(seen) == 1 else {"etag": "a b\r\nX-Evil: 1"}, b"{}")

    client = alone(send)
    assert client.get("/redfish/v1/").etag == 'W/"7"' and client.get("/redfish/v1/").etag == ""
    client.patch("/redfish/v1/x", {}, 'W/"7"')
    client.patch("/redfish/v1/x", {}, "")
    assert seen[2:] == ['W/"7"', None]


@given(JSON, JSON)
def test_any_registry_is_read_or_refused(entries: object, rules: object) -> None:
    for document in (
        entries,
        {"RegistryEntries": entries},
        {"RegistryEntries": {"Attributes": entries if isinstance(entries, list) else [entries], "Dependencies": rules}},
    ):
        try:
            known = parse_registry(document, "here")
        except RedfishError:
            continue
        names = list(known.attributes)
        plan(known, dict.fromkeys(names, "x"), {}, [Want(name, "y") for name in names])


@given(JSON)
def test_any_attributes_are_read_or_refused(found: object) -> None:
    assert all(isinstance(value, (str, int, float, bool)) for value in attributes({"Attributes": found}, "here").values())


def test_too_many_of_anything() -> None:
    with pytest.raises(RedfishError, match="at most"):
        parse_registry({"RegistryEntries": {"Attributes": [{}] * 20001}}, "here")
    with pytest.raises(RedfishError, match="at most"):
        attributes({"Attributes": {str(number): 1 for number in range(20001)}}, "here")


def poorer(running: Service, settings: bool, registries: bool) -> None:
    """The service without what others link to, and with the registry where Dell keeps it."""
    real = running.resource

    def resource(path: str) -> dict | None:
        found = real(path)
        if path.endswith("/Bios") and found and not settings:
            found.pop("@Redfish.Settings")
        if path.endswith("/Bios/BiosRegistry"):
            return running.machine.registry("BiosAttributeRegistry.v1_0_0")
        return None if "/Registries" in path and not registries else found

    running.resource = resource


def test_where_the_service_gives_no_link_the_vendors_way_is_taken() -> None:
    running = Service("hpe-snp")
    poorer(running, settings=False, registries=True)
    assert bring(running, None, desired("snp")).reboots == 2
    running = Service("dell-tdx")
    poorer(running, settings=True, registries=False)
    assert discover(client_of(running, None)).registry == "/redfish/v1/Systems/System.Embedded.1/Bios/BiosRegistry"
    assert bring(running, None, desired("tdx")).reboots == 3


def test_where_nothing_is_known_of_the_vendor_either_it_is_told() -> None:
    running = Service("asrock-snp")
    poorer(running, settings=False, registries=True)
    with pytest.raises(RedfishError, match="names no object for pending settings"):
        bring(running, None, desired("snp"))
    running = Service("asrock-snp")
    real = running.resource
    running.resource = lambda path: None if "Registries" in path else real(path)
    with pytest.raises(RedfishError, match="registry 'BiosAttributeRegistry.v1_0_0' is not to be found.*Boot the machine once"):
        bring(running, None, desired("snp"))

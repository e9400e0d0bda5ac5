# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An encrypted model in an OCI registry, decrypted while it is fetched: manifest and blobs by the distribution protocol, blobs in ranges.

The registry is trusted no more than any other server. A user and password go to it, and to where it has its tokens made if that host is named too, never
in clear but to this machine itself; a token is asked for that reads this one artifact.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import ipaddress
import re
import threading
from typing import Any, Dict, Mapping, Optional, Tuple
from urllib.parse import SplitResult, urlencode, urlsplit

from ansible_collections.attested.ai.plugins.module_utils.errors import FormatError, ModelError
from ansible_collections.attested.ai.plugins.module_utils.formats import strict
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt import layout
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel import artifact
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.manifest import Manifest
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.source import compare
from ansible_collections.attested.ai.plugins.module_utils.sealedmodel.web import Web, WebSource

_BEARER = re.compile(r'(?i)\bbearer\s+((?:[a-z_]+="[^"\\]*"\s*,?\s*)+)')
_PAIR = re.compile(r'(?i)([a-z_]+)="([^"\\]*)"')
_BASIC = re.compile(r"(?i)\bbasic\b")
_SMALL = 1 << 20


class RegistrySource(WebSource):
    """``web`` says how; its base is put in here."""

    def __init__(self, src: str, web: Web, auth_file: Optional[str] = None) -> None:
        if web.urls:
            raise ModelError("urls are for servers of files: a registry's manifest says where its blobs are", where=src, fix="Omit urls", code="model-options")
        host, name, version = artifact.remote(src)
        scheme = "http" if web.allow_http else "https"
        if auth_file and web.allow_http and not _is_here(re.sub(r":[0-9]+\Z", "", host).strip("[]")):
            fix = "Omit allow_http, and give ca_path if the registry's certificate is signed by an authority of your own"
            raise ModelError("with allow_http the password of auth_file would be sent in clear", where=src, fix=fix, code="model-options")
        base = "%s://%s/v2/%s" % (scheme, host, name)
        # A model has no file without a name. Where the others lie is known when the manifest was read.
        urls = {"": "%s/manifests/%s" % (base, version)}
        headers = {"Accept": "%s, %s" % (layout.OCI_MANIFEST, layout.DOCKER_MANIFEST), **web.headers}
        guard = Guard(host, name, credentials(auth_file, host, name) if auth_file else "", web)
        super().__init__(dataclasses.replace(web, base=base, urls=urls, headers=headers, guard=guard))
        self._src = src
        try:
            raw = self.read_small("", layout.MANIFEST_MAX)
            self._blobs = artifact.blobs(raw, version if ":" in version else "", src)
        except BaseException:
            self.close()
            raise
        urls.update((path, "%s/blobs/%s" % (base, layer.digest)) for path, layer in self._blobs.items())

    def check(self, manifest: Manifest) -> None:
        compare(artifact.sizes(self._blobs), manifest, self._src)


class Guard:
    """What a registry gets to see when it asks who is there. Safe for threads."""

    def __init__(self, host: str, name: str, basic: str, web: Web) -> None:
        self._host, self._name, self._basic, self._web = host, name, basic, web
        self._lock = threading.Lock()
        self.current = ""

    def answer(self, challenge: str, sent: str) -> None:
        """Have something else to show than ``sent``, which was refused. Raises ModelError where nothing can be shown."""
        with self._lock:
            if self.current != sent:
                # Another thread has asked for it meanwhile.
                return
            bearer = _BEARER.search(challenge)
            if bearer is not None:
                self.current = "Bearer " + self._token({key.lower(): value for key, value in _PAIR.findall(bearer.group(1))})
            elif _BASIC.search(challenge) and self._basic and not sent:
                self.current = "Basic " + self._basic
            else:
                raise ModelError("the registry refuses (status 401)", where=self._host, fix="Give auth_file with an entry for it", code="model-remote-denied")

    def _token(self, asked: Mapping[str, str]) -> str:
        try:
            realm = urlsplit(asked.get("realm", ""))
            at_home = _server(realm) == _server(urlsplit("%s://%s" % (realm.scheme, self._host)))
        except ValueError:
            realm, at_home = urlsplit(""), False
        named = realm.hostname in [host.lower() for host in self._web.redirect_hosts]
        in_clear = realm.scheme != "https" and not (self._web.allow_http and (not self._basic or _is_here(realm.hostname)))
        if not (at_home or named) or realm.query or realm.fragment or in_clear:
            what = "the registry has its tokens made by %s" % strict.quoted(asked.get("realm", "") or "nobody")
            fix = "If that host is meant, add it to redirect_hosts: it gets the password"
            raise ModelError(what, where=self._host, fix=fix, code="model-remote-redirect")
        # Not what the registry names as scope: the least that is enough.
        query = urlencode({"service": asked.get("service", ""), "scope": "repository:%s:pull" % self._name})
        headers = {"Authorization": "Basic " + self._basic} if self._basic else {}
        url = "%s?%s" % (realm.geturl(), query)
        source = WebSource(dataclasses.replace(self._web, base=realm.geturl(), urls={"": url}, headers=headers, redirect_hosts=(), guard=None))
        try:
            found = strict.loads(source.read_small("", _SMALL), realm.netloc)
        except FormatError:
            found = None
        finally:
            source.close()
        token = (found.get("token") or found.get("access_token")) if isinstance(found, dict) else None
        if not isinstance(token, str) or not re.match(r"[A-Za-z0-9._~+/=-]+\Z", token):
            raise ModelError("it sends no token", where=realm.netloc, code="model-remote-denied")
        return token


def _server(parts: SplitResult) -> Tuple[Optional[str], int]:
    """Host and port: on another port of the same host another may listen. Raises ValueError."""
    return parts.hostname, parts.port or {"http": 80}.get(parts.scheme, 443)


def _is_here(host: Optional[str]) -> bool:
    """What is sent there stays on this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def credentials(path: str, host: str, name: str) -> str:
    """User and password for a registry as Basic authentication has them, from a file like auth.json of podman and skopeo. Raises ModelError."""
    fix = "It is written by skopeo login --authfile; programs that keep passwords (credHelpers) are not asked"
    try:
        with open(path, "rb") as stream:
            document = strict.loads(stream.read(_SMALL))
    except OSError as error:
        raise ModelError("it cannot be read (%s)" % error.strerror, where=path, code="model-registry-auth") from None
    except FormatError:
        # Nothing of its content: it holds passwords.
        raise ModelError("it is no JSON", where=path, fix=fix, code="model-registry-auth") from None
    listed = document.get("auths") if isinstance(document, dict) else None
    entries: Dict[str, Any] = listed if isinstance(listed, dict) else {}
    place = "%s/%s" % (host, name)
    while place:
        entry = entries.get(place)
        if isinstance(entry, dict):
            text = entry.get("auth")
            try:
                if isinstance(text, str) and b":" in base64.b64decode(text.encode("ascii"), validate=True):
                    return text
            except (binascii.Error, UnicodeEncodeError):
                pass
            raise ModelError("its entry for %s holds no user and password" % place, where=path, fix=fix, code="model-registry-auth")
        place = place.rpartition("/")[0]
    raise ModelError("it has no entry for %s" % host, where=path, fix=fix, code="model-registry-auth")

# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, attested.ai contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Running skopeo: which one, with what, and what its complaints mean."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import typing as t
from dataclasses import dataclass

from ansible_collections.attested.ai.plugins.module_utils.errors import DependencyError
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt import layout
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt.problem import ImageError
from ansible_collections.attested.ai.plugins.module_utils.ocicrypt.reference import Reference

# The oldest that these tasks were run with. Debian 12's 1.9 cannot encrypt for key providers at all.
MINIMUM = (1, 18)
TRIES = 2
_MESSAGE = re.compile(r'msg=("(?:[^"\\]|\\.)*")')
# (what skopeo says, code, next step)
COMPLAINTS = (
    ("Provided protocol not recognized", "skopeo-too-old", "This skopeo knows no key providers: install 1.18 or newer"),
    ("no wrapped keys produced by encryption", "image-provider", "skopeo did not ask our key provider; see OCICRYPT_KEYPROVIDER_CONFIG"),
    ("attested.ai key provider", "image-provider", "See the key provider's words above"),
    ("Digest did not match", "image-blob", "The registry holds something else under this digest"),
    ("blob unknown", "image-blob", "The registry has lost a part of the image"),
    ("policy.json: no such file", "image-policy", "Give policy, a containers-policy.json(5) that says whose images may be read"),
    ("Source image rejected", "image-policy", "The signature policy of this machine, or policy, does not let the source in"),
    ("HTTP response to HTTPS client", "image-registry", "The registry speaks no TLS; for one that only this machine reaches: tls_verify: false"),
    ("does not look like a TLS handshake", "image-registry", "The registry speaks no TLS; for one that only this machine reaches: tls_verify: false"),
    ("certificate", "image-registry", "Give cert_dir with the authority's certificate (NAME.crt)"),
    ("permission denied", "image-permission", "This user may not read or write there"),
    ("authentication required", "image-registry-auth", "Give authfile, as skopeo login writes it"),
    ("unauthorized", "image-registry-auth", "Give authfile, as skopeo login writes it"),
    ("denied", "image-registry-auth", "The account in authfile may not do this"),
    ("connection refused", "image-registry", "Is the address right, and does the registry run?"),
    ("no such host", "image-registry", "Is the address right?"),
    ("no space left on device", "image-no-space", "Make room, or give work_path"),
    ("unsupported mediaType to encrypt", "image-source", "skopeo encrypts only layers of container images"),
)
_ABSENT = ("manifest unknown", "name unknown", "MANIFEST_UNKNOWN", "NAME_UNKNOWN", "repository name not known")


@dataclass(frozen=True)
class Skopeo:
    """A skopeo that is new enough, and how it reaches registries."""

    path: str
    version: str
    authfile: str = ""
    cert_dir: str = ""
    tls_verify: bool = True
    timeout: int = 3600

    @classmethod
    def find(cls, name: str, **options: t.Any) -> Skopeo:
        """Raises DependencyError if it is missing or too old."""
        path = shutil.which(name)
        if path is None:
            raise DependencyError(f"{name} is missing on the controller", fix="Install skopeo 1.18 or newer (Debian 13 has it), or give skopeo its path",
                                  code="skopeo-missing")  # fmt: skip
        try:
            told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL).stdout
        except (OSError, subprocess.TimeoutExpired):
            told = ""
        match = re.search(r"version (\d+)\.(\d+)(\S*)", told)
        if match is None:
            raise DependencyError(f"{path} does not tell its version: it is no skopeo, or does not start", code="skopeo-missing")
        if (int(match.group(1)), int(match.group(2))) < MINIMUM:
            raise DependencyError("%s is skopeo %s.%s, %d.%d is needed" % (path, match.group(1), match.group(2), *MINIMUM),
                                  fix="Older ones encrypt for no key provider, or were not tried: install a newer one, or give skopeo its path",
                                  code="skopeo-too-old")  # fmt: skip
        return cls(path, match.group(0).partition(" ")[2], **options)

    def manifest(self, reference: Reference) -> bytes | None:
        """The manifest or list as it is stored; None where the registry says that there is none."""
        if reference.local:
            return layout.find(reference.place, reference.tag)
        command = ["inspect", "--raw", "--retry-times", str(TRIES), *self._registry("")]
        done = self._start([*command, str(reference)])
        if done.returncode == 0:
            if reference.digest and layout.digest_of(done.stdout) != reference.digest:
                raise ImageError("the registry gave another image than was asked for", where=str(reference), code="image-registry")
            return done.stdout
        if any(word in done.stderr.decode("utf-8", "replace") for word in _ABSENT):
            return None
        raise _complaint(done.stderr, str(reference))

    def copy(self, source: Reference, dest: Reference, *arguments: str, policy: str = "", provider: str = "", architecture: str = "amd64") -> None:
        """Copy an image. ``policy`` is the file that says whether the source may be read; without one that of the machine counts."""
        command = ["--override-os", "linux", "--override-arch", architecture, *(["--policy", policy] if policy else [])]
        command += ["copy", "--quiet", "--retry-times", str(TRIES), *arguments]
        command += [*self._registry("src-" if not source.local else None), *self._registry("dest-" if not dest.local else None)]
        done = self._start([*command, str(source), str(dest)], provider)
        if done.returncode != 0:
            raise _complaint(done.stderr, str(dest))

    def _registry(self, prefix: str | None) -> list[str]:
        if prefix is None:
            return []
        found = [f"--{prefix}tls-verify={'true' if self.tls_verify else 'false'}"]
        if self.authfile:
            found += [f"--{prefix}authfile", self.authfile]
        if self.cert_dir:
            found += [f"--{prefix}cert-dir", self.cert_dir]
        return found

    def _start(self, arguments: list[str], provider: str = "") -> subprocess.CompletedProcess[bytes]:
        environment = dict(os.environ, LC_ALL="C.UTF-8")
        # Only ours: a provider that somebody else set must not be asked to wrap a key.
        environment.pop("OCICRYPT_KEYPROVIDER_CONFIG", None)
        if provider:
            environment["OCICRYPT_KEYPROVIDER_CONFIG"] = provider
        try:
            return subprocess.run([self.path, *arguments], capture_output=True, check=False, timeout=self.timeout, env=environment,
                                  stdin=subprocess.DEVNULL)  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ImageError(f"skopeo took longer than {self.timeout} seconds", where=arguments[-1], fix="Raise timeout", code="image-timeout") from None
        except OSError as error:
            raise DependencyError(f"{self.path} cannot be started ({error.strerror})", code="skopeo-missing") from None


def _complaint(stderr: bytes, where: str) -> ImageError:
    """What skopeo's last word means. It names files and addresses; of keys it never hears."""
    text = stderr.decode("utf-8", "replace")
    found = _MESSAGE.findall(text)
    message = str(json.loads(found[-1])) if found else text
    message = " ".join(message.split())
    code, fix = next(((code, fix) for words, code, fix in COMPLAINTS if words in message), ("image-skopeo", ""))
    return ImageError("skopeo: " + (message[:600] or "it ended without a word"), where=where, fix=fix, code=code)

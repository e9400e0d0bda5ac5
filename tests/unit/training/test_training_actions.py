# SPDX-License-Identifier: GPL-3.0-or-later
"""What an owner's controller refuses: another key, another data set, another party's; and check mode that looks at the key as well."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible_collections.attested.ai.plugins.action import kbs_model_key, training_result
from ansible_collections.attested.ai.plugins.module_utils.errors import AttestedError
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.jwk import public_jwk
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.modelkey import ModelKey
from ansible_collections.attested.ai.plugins.module_utils.keyrelease.secretfile import write_new
from ansible_collections.attested.ai.plugins.plugin_utils.release_offer import Offer
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


def _action(module, check_mode):
    action = module.ActionModule.__new__(module.ActionModule)
    action._loader, action._task = DataLoader(), SimpleNamespace(check_mode=check_mode)
    return action


def _key(lab, private, name):
    path = lab.folder / name
    write_new(str(path), private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(path)


def test_result_opens_with_the_right_key_only_and_check_mode_says_so(lab):
    lab.run()
    right, wrong = _key(lab, lab.owners["a"].result, "a.pem"), _key(lab, lab.owners["b"].result, "b.pem")
    options = {"agreement": str(lab.folder / "agreement.json"), "party": "a", "output": "model", "src": str(lab.folder / "results"),
               "dest": str(lab.folder / "opened"), "key": right, "checkpoint": None, "checkpoint_minimum": 1}  # fmt: skip
    for check_mode in (True, False):
        for path, code in ((wrong, "result-key"), (str(lab.folder / "none.pem"), "secret-missing")):
            with pytest.raises(AttestedError) as raised:
                _action(training_result, check_mode).work({**options, "key": path})
            assert raised.value.code == code
    told = [_action(training_result, check_mode).work(options) for check_mode in (True, False, False)]
    assert [one["changed"] for one in told] == [True, True, False] and all(one["succeeded"] for one in told)
    assert (lab.folder / "opened" / "n").read_text() == "model of 1 2\na1 2\nb"
    # A newer release of the data changes nothing about what came of the older one.
    lab.encrypt("a", 3)
    assert not _action(training_result, True).work(options)["changed"]


def test_key_for_jobs_is_stored_for_what_was_agreed_on_only(lab):
    action, path = _action(kbs_model_key, False), str(lab.folder / "agreement.json")
    keys = {name: _key(lab, owner.result, name + ".pem") for name, owner in lab.owners.items()}
    offer = Offer(lab.manifests["a"], public_jwk(lab.owners["a"].signer), lab.owners["a"].kek)
    options = {"agreement": path, "result_key": keys["a"], "model": "here"}
    stored = ModelKey.from_json(offer.model_key(2, *action._purpose(offer, options)).to_json(), "here", lab.agreement.digest)
    assert stored.tag_key == lab.tag_keys()["a"] and action._purpose(offer, {"agreement": None}) == ("", b"")
    newer = Offer(lab.encrypt("a", 3), offer.signer, offer.kek)
    other = Offer(offer.manifest, public_jwk(lab.owners["b"].signer), offer.kek)
    stranger = _key(lab, lab.owners["a"].signer, "stranger.pem")
    for wrong, changes, code in (
        (offer, {"result_key": keys["b"]}, "training-data"), (newer, {}, "training-data"), (other, {}, "training-data"),
        (offer, {"result_key": stranger}, "agreement-party"),
    ):  # fmt: skip
        with pytest.raises(AttestedError) as raised:
            action._purpose(wrong, {**options, **changes})
        assert raised.value.code == code

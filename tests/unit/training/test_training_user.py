# SPDX-License-Identifier: GPL-3.0-or-later
"""The program of a job runs as a user without rights: what it is given has to be within that user's reach, and the rest out of it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import sys
import traceback

from ansible_collections.attested.ai.plugins.module_utils.training import job, runner


def as_user(user, words, log):
    """Run the program in a child that has become ``user``, as systemd would start it. Its exit status."""
    account = pwd.getpwnam(user)
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    with contextlib.suppress(BaseException):
        with open(log, "a") as said, contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                if os.geteuid() == 0:
                    os.setgroups([])
                    os.setgid(account.pw_gid)
                    os.setuid(account.pw_uid)
                os.umask(0o077)
                sys.argv = words[1:]
                # Not an interpreter of its own: the one of these tests may lie where this user cannot go.
                exec(compile(pathlib.Path(words[1]).read_text(), words[1], "exec"), {"__name__": "__main__"})
                status = 0
            except BaseException:
                traceback.print_exc()
    os._exit(status)


def test_program_reaches_its_data_and_leaves_its_results_as_another_user(lab):
    user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    lab.memory.mkdir(exist_ok=True)
    lab.memory.chmod(0o711)
    seen = {}

    def execute(words):
        if words[0] != "systemd-run":
            return 0, "", ""
        given = dict(word.partition("=")[2].split("=", 1) for word in words if word.startswith("--property="))
        seen["data"] = (lab.memory / "count" / "data").stat()
        seen["status"] = as_user(given["User"], list(words[words.index("--") + 1:]), given["StandardOutput"].partition(":")[2])
        return seen["status"], "", ""

    answer = job.run(lab.job(isolation=runner.UNIT, limits=runner.Limits(user=user)), False, execute, lab.fetch)
    assert seen["status"] == 0 and answer["changed"]
    assert seen["data"].st_mode & 0o777 == 0o750 and seen["data"].st_gid == pwd.getpwnam(user).pw_gid
    assert sorted(path.name for path in (lab.folder / "results").iterdir()) == ["log", "metrics", "model"]

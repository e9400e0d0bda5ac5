# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-in for the get-pip script that ansible-test downloads: installs the same pip from the PyPI wheel beside this file."""

import os
import re
import runpy
import sys

here = os.path.dirname(os.path.abspath(__file__))
version = re.search(r"get_pip_([0-9_]+)\.py", __file__).group(1).replace("_", ".")
sys.path.insert(0, os.path.join(here, "pip-%s-py3-none-any.whl" % version))
sys.argv = ["pip", "install", "--quiet", "--find-links", here] + [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
runpy.run_module("pip", run_name="__main__", alter_sys=True)

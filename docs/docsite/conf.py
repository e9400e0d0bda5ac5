# SPDX-License-Identifier: GPL-3.0-or-later
"""Sphinx: the guides as they are (Markdown), and a page for each plugin, role and module from its own documentation."""

project = "attested.ai"
author = "attested.ai contributors"
extensions = ["myst_parser", "sphinx_antsibull_ext"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
# So that links to headings work as they do where the Markdown is looked at.
myst_heading_anchors = 4
html_theme = "sphinx_ansible_theme"
html_theme_options = {"display_version": False, "documentation_home_url": "index.html", "topbar_links": {}}
html_show_sphinx = False
highlight_language = "none"
# ref.ref: labels of Ansible's own documentation. Those of this collection are held by antsibull-docs lint-collection-docs.
# misc.highlighting_failure: excerpts in languages that the highlighter takes for broken.
suppress_warnings = ["ref.ref", "misc.highlighting_failure"]

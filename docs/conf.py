"""How Sphinx builds the manual: `sphinx-build -W -n --keep-going docs build/manual`.

It knows no page by name. Pages outside docs/ that the manual links to become pages of the manual (`beyond.py`).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

from sphinx.application import Sphinx  # noqa: E402

import rosd_kit  # noqa: E402

project = "rosd-kit"
author = "the authors of rosd-kit"
release = version = rosd_kit.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "beyond"]
exclude_patterns = ["pictures"]
root_doc = "index"

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True, "exclude-members": "model_config, __init__, __new__"}
python_use_unqualified_type_names = True

default_role = "code"  # docstrings put code between single backticks
nitpick_ignore = [
    ("py:class", f"rosd_kit.{name}")
    for name in (
        "parallel.ranks.Ranks",
        "settings.model.ModelSettings",
        "settings.core.CoreSettings",
        "display.base.RunSummary",
        "types.LeftOut",
        "components.reflectors.self_reflector.SelfReflector",
        "components.reflectors.self_reflector.SelfReflector.Config",
        "recipe.model.ComponentChoice",
        "recipe.model.ObjectiveChoice",
    )
]  # not public
nitpick_ignore_regex = [("py:.*", r"(?!rosd_kit\.).*")]  # other projects' names: their inventories would have to be downloaded

suppress_warnings = ["myst.header"]  # benchmarks/RESULTS.md gives its tables headings of the third level

html_theme = "furo"
html_title = f"rosd-kit {version}"
html_static_path = ["static"]
html_css_files = ["manual.css"]
html_copy_source = html_show_sourcelink = False
html_show_sphinx = html_show_copyright = False


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", fit_index)
    app.connect("env-get-outdated", lambda *_: [root_doc])


def fit_index(app: Sphinx, docname: str, source: list[str]) -> None:
    """Drop missing pages from the index and add those it does not name, so that every page can be reached."""
    if docname != root_doc:
        return
    block = re.compile(r"(?<=:titlesonly:\n\n).*?(?=:::)", re.S)
    entry = re.compile(r"^(?:.* <)?([\w/-]+)>?\n", re.M)
    named = {name for lines in block.findall(source[0]) for name in entry.findall(lines)}
    pages = app.env.found_docs
    source[0] = block.sub(
        lambda lines: entry.sub(lambda line: line.group() if line.group(1) in pages else "", lines.group()), source[0]
    )
    elsewhere = ("plugins/slots/", "beyond/plugins/")  # in the toctrees of other pages
    if rest := sorted(name for name in pages - named - {root_doc} if not name.startswith(elsewhere)):
        source[0] += "\n".join(["\n:::{toctree}", ":caption: More", ":titlesonly:\n", *rest, ":::\n"])

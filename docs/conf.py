"""How the pages are built: Sphinx, MyST and furo, from this folder alone; nothing is fetched while building or reading."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from infersim import __version__

project = "infersim"
author = "The infersim authors"
copyright = "The infersim authors, Apache-2.0"  # noqa: A001 - Sphinx's name
version = release = __version__

extensions = [
    "myst_parser", "sphinx.ext.autodoc", "sphinx.ext.extlinks", "sphinx.ext.viewcode", "sphinx_copybutton", "mathml",
    "generate",
]  # fmt: skip
exclude_patterns = ["_build", "_ext"]
needs_sphinx = "8.2"
smartquotes = False  # two hyphens are two hyphens
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!infersim\b).*"),  # types of other libraries, whose pages are elsewhere
    (r"py:obj", r"infersim\..*\.[A-Z]"),  # type variables
    (r"py:class", r"infersim\..*\._\w+"),  # private bases
]
extlinks = {"arxiv": ("https://arxiv.org/abs/%s", "arXiv:%s"), "doi": ("https://doi.org/%s", "doi:%s")}

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the signature says them
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": True}
add_module_names = False
toc_object_entries = False  # 4,000 objects in the contents of 200 pages would be built for minutes
maximum_signature_line_length = 100
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"infersim {version}"
html_static_path = ["_static"]
html_css_files = ["infersim.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False
html_show_sphinx = False
html_copy_source = False
pygments_style, pygments_dark_style = "friendly", "native"
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True

"""Settings of the site that ``make docs`` builds; ``docs/generate.py`` writes the pages that are made from the code."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]  # zoo, and generate

import generate  # noqa: E402

import zoo  # noqa: E402

project, author = "Reference model zoo", "the authors of the reference model zoo"
version = release = zoo.__version__
language = "en"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"
exclude_patterns = ["_build"]

nb_execution_mode = "off"  # notebooks are shown with the outputs that they were saved with
myst_heading_anchors = 3
suppress_warnings = [
    "misc.highlighting_failure",  # a page may quote a part of a config
    "ref.python",  # an attribute's name, such as model, is that of several classes
]

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # torch's and Lightning's own docstrings are not this project's
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 88
napoleon_use_ivar = True
add_module_names = False

html_theme = "furo"  # its styles, scripts and fonts are local: a page asks nothing of the network
html_title = f"{project} {version}"
html_static_path = ["static"]
html_css_files = ["wide.css"]
html_copy_source = False
html_show_sphinx = html_show_copyright = False


def setup(app) -> None:
    app.connect("config-inited", lambda app, config: generate.all_pages(HERE))
    app.connect("source-read", generate.link_to_pages)

"""How Sphinx makes the pages of the user's guide (see build.sh)."""

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

from nnet import __version__  # noqa: E402

project = "ngtrain"
release = version = __version__
language = "en"
html_title = "ngtrain"
copyright = ""

extensions = ["myst_parser", "mathml", "program_pages"]
myst_enable_extensions = ["attrs_inline", "deflist", "dollarmath"]
myst_heading_anchors = 3
nitpicky = True
exclude_patterns = ["build"]
highlight_language = "text"

html_theme = "furo"
html_math_renderer = "mathml"  # drawn by the browser: no script, no network
html_static_path = ["guide.css"]
html_css_files = ["guide.css"]
html_copy_source = False
html_show_copyright = False

linkcheck_timeout = 15

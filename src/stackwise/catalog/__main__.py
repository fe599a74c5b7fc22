"""`python -m stackwise.catalog` writes the index; with `--check` it says whether it is right."""

import sys

from stackwise.catalog.index import INDEX, index_text
from stackwise.files import write_text

made = index_text()
if "--check" in sys.argv:
    if not INDEX.exists() or INDEX.read_text(encoding="utf-8") != made:
        sys.exit("src/stackwise/index.json is not up to date: run 'make index'")
else:
    write_text(INDEX, made)

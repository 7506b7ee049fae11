"""Write the tables that are made from rows in the code: `python -m scripts.write_tables`.

Due after a preset, a quality or a family has changed.

A document says where a table stands by two comments, `<!-- table: NAME -->` and `<!-- end -->`; what is between them is
replaced. With --check nothing is written: documents that are not current are named, and the exit status is 1.
"""

import argparse
import importlib
import importlib.util
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "python"))  # the words of this checkout, not those of an installed wheel

from jenga.runtime import quality_words  # noqa: E402
from jenga.sampling import preset_words  # noqa: E402

HOST = ROOT / "nodes" / "host"


def families_table() -> str:
    """The folder is loaded under a name of its own: ComfyUI too has a `nodes`."""
    name = "jenga_host"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, HOST / "__init__.py", submodule_search_locations=[str(HOST)]
        )
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return importlib.import_module(f"{name}.families.words").table()


TABLES = {
    "presets": preset_words.table,
    "stage presets": preset_words.stages_table,
    "qualities": quality_words.table,
    "families": families_table,
}
DOCUMENTS = ("README.md", "web/docs/*.md", "docs/*.md")
REGION = re.compile(r"(<!-- table: ([\w -]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def current(text: str) -> str:
    """A document with its tables as the code has them. Raises KeyError for a table that does not exist."""
    return REGION.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n\n{found[3]}", text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where a document is not current")
    check = parser.parse_args().check
    stale = 0
    for path in sorted(path for pattern in DOCUMENTS for path in ROOT.glob(pattern)):
        text = path.read_text(encoding="utf-8")
        if current(text) != text:
            stale += 1
            print(f"{path.relative_to(ROOT)}{' is not current: python -m scripts.write_tables' if check else ''}")
            if not check:
                path.write_text(current(text), encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())

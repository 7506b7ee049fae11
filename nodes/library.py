"""Which `jenga` the nodes use: the installed one where it is of this pack's version, else the copy in this folder.

The copy is the Python part alone: without libraries beside it, it runs in FlexAttention or plain torch and says so.
Nothing of `jenga` is imported here: the choice comes before.
"""

import importlib.util
import logging
import re
import sys
from pathlib import Path

_VERSION = re.compile(r'^__version__ = "(.+)"', re.MULTILINE)


def version_of(package: Path) -> str:
    """The version that a folder of `jenga` says it is."""
    match = _VERSION.search((package / "__init__.py").read_text(encoding="utf-8"))
    return match[1] if match else "unknown"


def provide(pack: Path) -> None:
    """Make `import jenga` find one of the version of the node pack in this folder."""
    ours = pack / "python"
    spec = importlib.util.find_spec("jenga")
    if spec is None or not spec.origin:
        sys.path.append(str(ours))
        return
    found, wanted = version_of(Path(spec.origin).parent), version_of(ours / "jenga")
    if found != wanted:
        sys.path.insert(0, str(ours))
        logging.warning(
            "Jenga: the installed wheel must be of the node pack's version %s, got %s; without it the nodes run in "
            "FlexAttention or plain torch. Install the wheel of %s with ComfyUI's Python.",
            *(wanted, found, wanted),
        )

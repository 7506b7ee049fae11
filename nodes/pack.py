"""The pack as ComfyUI sees it. Without the wheel it runs too: the Python part is in this repository, in plain torch."""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("jenga") is None:
    sys.path.append(str(Path(__file__).resolve().parent.parent / "python"))

from comfy_api.latest import ComfyExtension, io  # noqa: E402

from .ab import JengaAB  # noqa: E402
from .attention import JengaAttention  # noqa: E402
from .compare import JengaCompare  # noqa: E402
from .demo_prompt import JengaDemoPrompt  # noqa: E402
from .jenga import Jenga  # noqa: E402
from .report import JengaReport  # noqa: E402
from .sampler import JengaProgressiveSampler  # noqa: E402


class JengaExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [Jenga, JengaAttention, JengaProgressiveSampler, JengaReport, JengaCompare, JengaAB, JengaDemoPrompt]

"""Dependencies point one way: nodes -> python/jenga and its rooms -> csrc/ops -> kernels -> csrc/core.

check_layering.py ROOT prints every violation under ROOT and exits with 1 if there is one; --self-test breaks every
rule once in a temporary tree and asserts that each is found. C++ is judged by its #include lines, Python by its import
statements, wherever in the file they stand.
"""

import ast
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from checks import CXX_SUFFIXES, files, main, within

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"][^>"\n]+[>"])', re.MULTILINE)
COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)

TORCH = re.compile(r'[<"](torch|ATen|c10|aten)/')
CUDA = re.compile(r'[<"](cuda[^/]*\.h|cuda/|cub/|cute/|cutlass/|cooperative_groups|thrust/|nv/|mma\.h|[^>"]*\.cuh)')
PRIVATE = re.compile(r"_[^_].*")
STANDARD = re.compile(r"<[a-z_0-9]+>")


@dataclass(frozen=True)
class Rule:
    """`broken(path, name)`: may the file at `path` (relative, posix) not use `name` (an include or a module)?"""

    text: str
    broken: Callable[[str, str], bool]


def names_folder(include: str, folder: str) -> bool:
    """`folder` is the beginning of the included path, or a part of it reached by ../."""
    return include[1:].startswith(folder + "/") or f"/{folder}/" in include


def is_module(name: str, *roots: str) -> bool:
    return name.lstrip(".").split(".")[0] in roots


COMFY = ("comfy", "comfy_api", "comfy_execution", "comfy_extras", "comfy_config", "folder_paths")
COMFY_TOP = ("server", "latent_preview", "execution", "node_helpers", "comfyui_version")  # others have such names too


def is_comfy(name: str) -> bool:
    return is_module(name, *COMFY)


def is_public_comfy(name: str) -> bool:
    """A numbered version of the API."""
    return re.match(r"comfy_api\.v\d", name) is not None


INCLUDE_RULES = [
    Rule(
        "torch headers are for csrc/ops alone, and for the Windows program that loads it",
        lambda path, name: bool(TORCH.match(name)) and not within(path, "csrc/ops", "tests/cpp/windows"),
    ),
    Rule(
        "CUDA headers are for kernels/cuda, csrc/ops/cuda and tests/cpp/cuda alone",
        lambda path, name: (
            bool(CUDA.match(name)) and not within(path, "kernels/cuda", "csrc/ops/cuda", "tests/cpp/cuda")
        ),
    ),
    Rule(
        "kernels know neither csrc/ops nor csrc/bindings",
        lambda path, name: (
            within(path, "kernels") and (names_folder(name, "csrc/ops") or names_folder(name, "csrc/bindings"))
        ),
    ),
    Rule(
        "csrc/core includes the standard library and csrc/core alone",
        lambda path, name: (
            within(path, "csrc/core") and not STANDARD.fullmatch(name) and not name.startswith('"csrc/core/')
        ),
    ),
    Rule(
        "csrc/bindings knows csrc/core alone",
        lambda path, name: (
            within(path, "csrc/bindings") and (names_folder(name, "csrc/ops") or names_folder(name, "kernels"))
        ),
    ),
]

# Rooms of python/jenga, and the rooms that each may import. Whatever stands in none of them (the package itself) may
# import all; integrations are second hosts.
ROOMS = {
    "carving": ("carving",),
    "sampling": ("sampling",),
    "runtime": ("runtime", "carving"),
    "report": ("report", "runtime", "carving"),
    "integrations": ("integrations", "report", "runtime", "sampling", "carving"),
}


def room_of(path: str) -> str:
    """The room of a file of python/jenga; empty elsewhere."""
    parts = path.split("/")
    return parts[2] if within(path, "python/jenga") and len(parts) > 3 and parts[2] in ROOMS else ""


def room_named(path: str, name: str) -> str:
    """The room that an import in a room's file names: relative to the package, or through jenga; empty elsewhere."""
    if name.startswith("..") and not name.startswith("..."):
        room = name[2:].split(".")[0]
    elif name.startswith("jenga."):
        room = name.split(".")[1]
    else:
        return ""
    return room if room in ROOMS else ""


IMPORT_RULES = [
    Rule(
        "rooms of python/jenga import downwards: integrations -> report -> runtime -> carving, and sampling by itself",
        lambda path, name: (
            bool(room_of(path) and room_named(path, name)) and room_named(path, name) not in ROOMS[room_of(path)]
        ),
    ),
    Rule(
        "a private name of one file is not imported by another",
        lambda path, name: within(path, "python/jenga", "nodes") and bool(PRIVATE.fullmatch(name.split(".")[-1])),
    ),
    Rule(
        "comfy is imported by nodes, the root __init__.py, tests, demo and benchmarks/host alone",
        lambda path, name: (
            is_comfy(name) and path != "__init__.py" and not within(path, "nodes", "tests", "demo", "benchmarks/host")
        ),
    ),
    Rule(
        "python/jenga imports neither comfy nor nodes",
        lambda path, name: within(path, "python/jenga") and (is_comfy(name) or is_module(name, "nodes")),
    ),
    Rule(
        "what ships does not import demo, benchmarks, scripts or tests",
        lambda path, name: (
            within(path, "python/jenga", "nodes") and is_module(name, "demo", "benchmarks", "scripts", "tests")
        ),
    ),
    Rule(
        "nodes import a numbered version of comfy_api and nothing else of ComfyUI's: nodes/host/private.py looks it up",
        lambda path, name: (
            within(path, "nodes") and (is_comfy(name) or name.split(".")[0] in COMFY_TOP) and not is_public_comfy(name)
        ),
    ),
    Rule(
        "the demo imports a numbered version of comfy_api",
        lambda path, name: within(path, "demo") and name.startswith("comfy_api.latest"),
    ),
]


# What one host calls its things. The package speaks of none of them outside integrations.
HOST_WORDS = re.compile(
    r"comfy|transformer_options|model_options|uuids|cond_or_uncond|sample_sigmas|c_crossattn|context_window"
    r"|percent_to_sigma|model_sampling|diffusers",
    re.IGNORECASE,
)
HOST_WORDS_RULE = "python/jenga speaks no host's words outside integrations"

# What ComfyUI has without promising it, and the one file of the nodes that may use it: names in its modules, and what
# it keeps in its options and objects.
PRIVATE_NAMES = re.compile(
    r"\"comfy\.|WrappersMP|wrappers?_with_key|\.get_wrappers|\.wrappers\b|PromptServer|\"latent_preview|\"comfy_execution"
)
PRIVATE_OPTIONS = re.compile(
    r"optimized_attention_override|cond_or_uncond|\buuids\b|sample_sigmas|\"context_window|patches_replace"
    r"|block_index|total_blocks|grid_sizes|\"easycache|_orig_mod|current_patcher|current_hooks|multigpu_thread_device"
)
PRIVATE_FILES = {PRIVATE_NAMES: "nodes/host/private.py", PRIVATE_OPTIONS: "nodes/host/private_options.py"}
PRIVATE_WORDS_RULE = "what is not public API of ComfyUI is used in nodes/host/private.py or private_options.py alone"


def forbidden(path: str) -> Iterator[tuple[re.Pattern, str]]:
    """Patterns of words that a file may not use, and the rule."""
    if within(path, "python/jenga") and room_of(path) != "integrations":
        yield HOST_WORDS, HOST_WORDS_RULE
    if within(path, "nodes"):
        yield from ((pattern, PRIVATE_WORDS_RULE) for pattern, file in PRIVATE_FILES.items() if path != file)


def words(path: str, text: str) -> Iterator[tuple[int, str, str]]:
    """Words that a file may not use: lines, words, and the rule."""
    for pattern, rule in forbidden(path):
        for match in pattern.finditer(text):
            yield text.count("\n", 0, match.start()) + 1, match[0], rule


def includes(text: str) -> Iterator[tuple[int, str]]:
    # Comments go, strings stay, lines keep their numbers.
    code = COMMENT.sub(lambda m: m[0] if m[0][0] == '"' else "\n" * m[0].count("\n"), text)
    for match in INCLUDE.finditer(code):
        yield code.count("\n", 0, match.start(1)) + 1, match[1]


def imports(text: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = "." * node.level + (node.module or "")
            if node.module:
                yield node.lineno, parent
                yield from ((node.lineno, f"{parent}.{alias.name}") for alias in node.names if alias.name[0] == "_")
            else:
                yield from ((node.lineno, parent + alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if function in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def violations(root: Path) -> list[str]:
    found = []
    for file in files(root):
        if file.suffix in CXX_SUFFIXES:
            uses, rules = includes, INCLUDE_RULES
        elif file.suffix == ".py":
            uses, rules = imports, IMPORT_RULES
        else:
            continue
        path, text = file.relative_to(root).as_posix(), file.read_text(encoding="utf-8")
        for line, name in uses(text):
            found += [f"{path}:{line}: {name}: {rule.text}" for rule in rules if rule.broken(path, name)]
        found += [f"{path}:{line}: {word}: {rule}" for line, word, rule in words(path, text)]
    return found


# One file per way to break a rule, and the rule; the empty text marks files that break none.
SELF_TEST = {
    "kernels/cpu/a.h": ("#include <torch/csrc/stable/tensor.h>\n", "torch headers"),
    "csrc/core/torch.h": ('  # include "ATen/ATen.h"\n', "torch headers"),
    "tests/cpp/core/a.cpp": ("#include <c10/util/Half.h>\n", "torch headers"),
    "csrc/ops/cpu/a.cpp": ("#include <cuda_runtime.h>\n", "CUDA headers"),
    "kernels/reference/a.cpp": ('#include "kernels/cuda/common/tile.cuh"\n', "CUDA headers"),
    "tests/cpp/kernels/a.cpp": ("#include <cuda_bf16.h>\n", "CUDA headers"),
    "kernels/cuda/a.cu": ('#include "csrc/ops/checks.h"\n', "kernels know"),
    "kernels/cpu/b.cpp": ('#include "../../csrc/ops/checks.h"\n', "kernels know"),
    "csrc/core/a.cpp": ('#include "kernels/params.h"\n', "csrc/core includes"),
    "csrc/core/b.cpp": ("#include <pybind11/stl.h>\n", "csrc/core includes"),
    "csrc/bindings/a.cpp": ('#include "kernels/params.h"\n', "csrc/bindings knows"),
    "scripts/a.py": ("def f():\n    from comfy.ldm import wan\n", "comfy is imported"),
    "benchmarks/a.py": ("import importlib\nimportlib.import_module('comfy_api.latest')\n", "comfy is imported"),
    "python/jenga/a.py": ("from ...nodes import pack\n", "python/jenga imports"),
    "python/jenga/b.py": ("from ... import nodes\n", "python/jenga imports"),
    "nodes/b.py": ("from ..demo import prompts\n", "what ships"),
    "nodes/c.py": ("from comfy_api.latest import io\n", "nodes import a numbered version"),
    "nodes/d.py": ("def f():\n    from server import PromptServer\n", "nodes import a numbered version"),
    "nodes/host/private.py": ('import comfy.sample\nMODULE = "comfy.sample"\n', "nodes import a numbered version"),
    "nodes/host/private_options.py": ("KEY = 'sample_sigmas'\nfrom server import PromptServer\n", PRIVATE_WORDS_RULE),
    "nodes/host/a.py": ("sigmas = options['sample_sigmas']\n", PRIVATE_WORDS_RULE),
    "nodes/host/b.py": ('attention = look_up("comfy.ldm.modules.attention")\n', PRIVATE_WORDS_RULE),
    "demo/b.py": ("from comfy_api.latest import io\n", "the demo imports"),
    "python/jenga/carving/a.py": ("from ..runtime.run import Run\n", "rooms of python/jenga"),
    "python/jenga/runtime/a.py": ("import jenga.report.view\n", "rooms of python/jenga"),
    "python/jenga/sampling/a.py": ("from ..carving import ops\n", "rooms of python/jenga"),
    "python/jenga/runtime/b.py": ("from .anchors import _split\n", "a private name"),
    "python/jenga/runtime/c.py": ("KEY = 'sample_sigmas'\n", HOST_WORDS_RULE),
    "python/jenga/report/a.py": ("from ..runtime.anchors import ANCHOR\nfrom ..carving import ops\n", ""),
    "python/jenga/integrations/a.py": ("# diffusers\nfrom ..runtime.run import Run\n", ""),
    "kernels/cpu/c.cpp": (
        '// #include <torch/library.h>\n/*\n#include <cuda.h>\n*/\n#include "csrc/core/curve.h"\n',
        "",
    ),
    "kernels/cuda/b.cu": ("#include <cuda_fp16.h>\n", ""),
    "csrc/ops/cuda/a.cpp": ("#include <cuda_runtime_api.h>\n#include <torch/csrc/stable/library.h>\n", ""),
    "csrc/core/c.cpp": ('#include <cstdint>\n#include "csrc/core/curve.h"\n', ""),
    "__init__.py": ("from comfy_api.latest import io\n", ""),
    "nodes/a.py": ("from comfy_api.v0_0_2 import io\nfrom .server import Server\n", ""),
    "benchmarks/host/a.py": ("import comfy.sample\n", ""),
    "tests/host/a.py": ("import comfy\n", ""),
    "demo/a.py": ("import folder_paths\n", ""),
    "python/jenga/c.py": ("import torch\nCOMMENT = 'import torch'\n", ""),
    ".venv/lib/a.py": ("import comfy\n", ""),
    "build/a.cpp": ("#include <torch/library.h>\n", ""),
}


def self_test() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for path, (text, _) in SELF_TEST.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
        found = violations(root)
    for path, (_, rule) in SELF_TEST.items():
        mine = [line for line in found if line.startswith(path + ":")]
        assert any(rule in line for line in mine) if rule else not mine, (
            f"{path}: expected {rule or 'none'}, got {mine}"
        )
    every = [rule.text for rule in INCLUDE_RULES + IMPORT_RULES] + [HOST_WORDS_RULE, PRIVATE_WORDS_RULE]
    untested = [text for text in every if not any(text in line for line in found)]
    assert not untested, f"rules that no file of the self-test breaks: {untested}"
    print(f"{len(SELF_TEST)} files, {len(found)} violations found as expected")


if __name__ == "__main__":
    sys.exit(main(__doc__, violations, self_test, "layering holds"))

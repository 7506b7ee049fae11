"""The pack as ComfyUI sees it: a table of its nodes, each imported by itself.

A node that cannot be imported is left out, the others load; a name that ComfyUI has moved costs what needs it
(nodes/host/private.py). Without the wheel the pack runs too: the Python part is in this repository, in plain torch.
"""

import importlib
import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path

from comfy_api.v0_0_2 import ComfyExtension, io

from . import library

library.provide(Path(__file__).resolve().parent.parent)  # before any node is imported


@dataclass(frozen=True)
class Entry:
    """One node: its id, which is the name of its class too, and its module, relative to this folder.

    optional: a copy of the pack may come without that module.
    """

    node_id: str
    module: str
    optional: bool = False

    def load(self) -> type[io.ComfyNode]:
        """The node. Its schema is made here, since ComfyUI drops the whole pack where one cannot be made."""
        node = getattr(importlib.import_module(self.module, __package__), self.node_id)
        node.GET_SCHEMA()
        return node


NODES = (
    Entry("Jenga", ".jenga"),
    Entry("JengaAttention", ".attention"),
    Entry("JengaProgressiveSampler", ".sampler"),
    Entry("JengaReport", ".report"),
    Entry("JengaCompare", ".compare"),
    Entry("JengaAB", ".ab"),
    Entry("JengaDemoPrompt", "..demo.prompt_node", optional=True),
)


def load_nodes(entries: tuple[Entry, ...] = NODES) -> list[type[io.ComfyNode]]:
    """The nodes that can be imported. One that cannot is named in the log, with the reason."""
    nodes = []
    for entry in entries:
        try:
            nodes.append(entry.load())
        except Exception as error:  # whatever an import may raise
            if entry.optional and _is_absent(entry, error):
                continue
            reason = f"{type(error).__name__}: {error}"
            logging.exception("Jenga: the node %s is left out, the other nodes work: %s", entry.node_id, reason)
    return nodes


def _is_absent(entry: Entry, error: Exception) -> bool:
    """Whether it is the entry's own module that does not exist, or its folder."""
    module = importlib.util.resolve_name(entry.module, __package__)
    return isinstance(error, ModuleNotFoundError) and error.name in (module, module.rpartition(".")[0])


class JengaExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return load_nodes()

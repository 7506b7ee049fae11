"""Workflow graphs written as Python: nodes with named inputs, saved in the format ComfyUI's page opens.

A widget that is not given gets the default of /object_info, so a graph states what matters and nothing else.
"""

import json
from dataclasses import dataclass, field

SEED_WIDGETS = ("seed", "noise_seed")  # the page adds a "control after generate" value behind these
WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


@dataclass
class Node:
    """One node of a Graph; `node[i]` is its i-th output."""

    graph: "Graph"
    id: int
    type: str

    def __getitem__(self, slot: int) -> tuple["Node", int]:
        return self, slot


@dataclass
class Graph:
    """A workflow under construction. object_info: the answer of ComfyUI's /object_info."""

    object_info: dict
    nodes: list[dict] = field(default_factory=list)
    links: list[list] = field(default_factory=list)

    def add(
        self, type_: str, at: tuple[int, int], size: tuple[int, int] = (300, 120), title: str = "", **inputs
    ) -> Node:
        """A node of type `type_` at a place on the canvas. inputs: widget values, or outputs of other nodes.

        Raises KeyError if the type or an input does not exist in object_info.
        """
        if type_ == "MarkdownNote":
            return self._note(at, size, title, inputs["text"])
        info = self.object_info[type_]
        specs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        unknown = set(inputs) - set(specs)
        if unknown:
            raise KeyError(f"{type_} has no input {', '.join(sorted(unknown))}")
        node = Node(self, len(self.nodes) + 1, type_)
        sockets, widgets = [], []
        for name, spec in specs.items():
            value = inputs.get(name)
            kind, options = spec[0], (spec[1] if len(spec) > 1 else {})
            is_widget = isinstance(kind, list) or kind in WIDGET_TYPES
            if is_widget:
                if isinstance(value, tuple):
                    raise KeyError(f"{type_}: links into widgets are not supported by this writer, got one for {name}")
                choices = kind if isinstance(kind, list) else options.get("options", [None])
                widgets.append(value if value is not None else options.get("default", choices[0]))
                if name in SEED_WIDGETS:
                    widgets.append("fixed")
            else:
                link = self._link(value, node.id, len(sockets), kind) if value is not None else None
                sockets.append({"name": name, "type": kind, "link": link})
        outputs = [
            {"name": name, "type": kind, "links": [], "slot_index": slot}
            for slot, (name, kind) in enumerate(zip(info["output_name"], info["output"], strict=True))
        ]
        self._append(node.id, type_, at, size, title, sockets, outputs, widgets)
        return node

    def _note(self, at, size, title, text) -> Node:
        node = Node(self, len(self.nodes) + 1, "MarkdownNote")
        self._append(node.id, "MarkdownNote", at, size, title, [], [], [text])
        return node

    def _append(self, id_, type_, at, size, title, sockets, outputs, widgets) -> None:
        entry = {
            "id": id_,
            "type": type_,
            "pos": list(at),
            "size": list(size),
            "flags": {},
            "order": id_ - 1,
            "mode": 0,
            "inputs": sockets,
            "outputs": outputs,
            "properties": {"Node name for S&R": type_},
            "widgets_values": widgets,
        }
        if title:
            entry["title"] = title
        self.nodes.append(entry)

    def _link(self, source: tuple[Node, int], target: int, target_slot: int, kind: str) -> int:
        node, slot = source
        link = len(self.links) + 1
        output = self.nodes[node.id - 1]["outputs"][slot]
        output["links"].append(link)
        self.links.append([link, node.id, slot, target, target_slot, kind if kind != "*" else output["type"]])
        return link

    def dumps(self) -> str:
        """The workflow as JSON text, stable from run to run."""
        return (
            json.dumps(
                {
                    "last_node_id": len(self.nodes),
                    "last_link_id": len(self.links),
                    "nodes": self.nodes,
                    "links": self.links,
                    "groups": [],
                    "config": {},
                    "extra": {},
                    "version": 0.4,
                },
                indent=1,
                ensure_ascii=False,
            )
            + "\n"
        )

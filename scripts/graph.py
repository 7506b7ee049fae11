"""Workflow graphs written as Python: nodes with named inputs, saved in the format ComfyUI's page opens.

A widget that is not given gets the default of /object_info, so a graph states what matters and nothing else. Nodes
stand in columns, each as high as the page draws it, so that none overlaps another.
"""

import json
from dataclasses import dataclass, field

SEED_WIDGETS = ("seed", "noise_seed")  # the page adds a "control after generate" value behind these
UPLOAD_OPTIONS = ("image_upload", "video_upload", "audio_upload")  # the page adds an upload button behind these
WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3")
NOTE = "MarkdownNote"
FOLDING = "Jenga"  # nodes whose advanced widgets are folded at their defaults (web/js/fold.js)

# How ComfyUI's page measures a node, in canvas units.
TITLE, SLOT, WIDGET, TEXT_WIDGET, MARGIN = 30, 20, 24, 100, 6
GAP_X, GAP_Y = 44, 24


@dataclass
class Node:
    """One node of a Graph; `node[i]` is its i-th output."""

    graph: "Graph"
    id: int
    type: str

    def __getitem__(self, slot: int) -> tuple["Node", int]:
        return self, slot


@dataclass
class Column:
    """Nodes under one another, all of one width."""

    graph: "Graph"
    x: int
    width: int
    y: int = 0

    def add(self, type_: str, title: str = "", room: int = 0, **inputs) -> Node:
        """A node of type `type_` at the foot of the column. inputs: widget values, or outputs of other nodes.

        room: height kept free for what the node shows once it has run (status text, a picture).
        Raises KeyError if the type or an input does not exist in object_info.
        """
        node, height = self.graph._add(type_, (self.x, self.y), self.width, title, room, inputs)
        self._advance(height)
        return node

    def note(self, text: str, height: int, title: str = "Read me") -> None:
        """A Markdown note."""
        self.graph._append(NOTE, (self.x, self.y), (self.width, height), title, [], [], [text])
        self._advance(height)

    def _advance(self, height: int) -> None:
        self.y += height + TITLE + GAP_Y


@dataclass
class Graph:
    """A workflow under construction. object_info: the answer of ComfyUI's /object_info."""

    object_info: dict
    nodes: list[dict] = field(default_factory=list)
    links: list[list] = field(default_factory=list)
    _right: int = 0

    def column(self, width: int = 300) -> Column:
        """A new, empty column to the right of all others."""
        column = Column(self, self._right, width)
        self._right += width + GAP_X
        return column

    def _add(self, type_, at, width, title, room, inputs) -> tuple[Node, int]:
        info = self.object_info[type_]
        specs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        unknown = set(inputs) - set(specs)
        if unknown:
            raise KeyError(f"{type_} has no input {', '.join(sorted(unknown))}")
        node = Node(self, len(self.nodes) + 1, type_)
        sockets, widgets, widget_height = [], [], 0
        for name, spec in specs.items():
            value = inputs.get(name)
            kind, options = spec[0], (spec[1] if len(spec) > 1 else {})
            if isinstance(kind, list) or kind in WIDGET_TYPES:
                if isinstance(value, tuple):
                    raise KeyError(f"{type_}: links into widgets are not supported by this writer, got one for {name}")
                values = _widget_values(name, kind, options, value)
                widgets += values
                if not (value is None and type_.startswith(FOLDING) and options.get("advanced")):
                    widget_height += TEXT_WIDGET if options.get("multiline") else WIDGET * len(values)
            else:
                link = self._link(value, node.id, len(sockets), kind) if value is not None else None
                sockets.append({"name": name, "type": kind, "link": link})
        outputs = [
            {"name": name, "type": kind, "links": [], "slot_index": slot}
            for slot, (name, kind) in enumerate(zip(info["output_name"], info["output"], strict=True))
        ]
        rows = max(len(sockets), len(outputs), 1)
        height = rows * SLOT + widget_height + MARGIN + (8 if widgets else 0) + room
        self._append(type_, at, (width, height), title, sockets, outputs, widgets)
        return node, height

    def _append(self, type_, at, size, title, sockets, outputs, widgets) -> None:
        entry = {
            "id": len(self.nodes) + 1,
            "type": type_,
            "pos": list(at),
            "size": list(size),
            "flags": {},
            "order": len(self.nodes),
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


def _widget_values(name: str, kind, options: dict, value) -> list:
    """What the page stores for one input that is a widget: its value, and that of a widget the page adds behind it."""
    choices = kind if isinstance(kind, list) else options.get("options", [])
    first = choices[0] if choices else None
    default = options.get("default", first["key"] if isinstance(first, dict) else first)
    values = [default if value is None else value]
    if name in SEED_WIDGETS:
        values.append("fixed")
    if any(options.get(option) for option in UPLOAD_OPTIONS):
        values.append("image")
    return values

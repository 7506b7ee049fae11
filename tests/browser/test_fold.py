"""A Jenga node shows its dial first, unfolds what counts, and reads the widget values of workflows saved before."""

import pytest

DIALS = {
    "Jenga": ["preset", "quality"],
    "JengaAttention": ["quality"],
    "JengaProgressiveSampler": ["preset", "step_reuse"],
}
# type, widgets_values as the page saved them before `quality` of Jenga, and before the qualities of Jenga Attention
SAVED = {
    "Jenga": ["flash", "adaptive", 0.2, "0-1", 2048, "native", True],
    "JengaAttention": [0.35, 0.9, "128", "32", "none", "raster", "2", 0.1, 0.8, 1024, "flex", True, False],
    "JengaProgressiveSampler": ["custom", "off", "0.5, 1.0", "0.4", "1.0", "dct", "independent", 0.25],
}

_NEW = """(type) => {
  app.graph.clear()
  // The page remembers widget values by node id: every node of these tests has its own.
  app.graph.state.lastNodeId = window.jengaNodes = (window.jengaNodes ?? 100) + 1
  app.graph.add(LiteGraph.createNode(type))
}"""
_NODE = "const node = app.graph.nodes[0];"
_SHOWN = f"() => {{ {_NODE} return node.widgets.filter((widget) => !widget.hidden).map((widget) => widget.name) }}"
_VALUES = f"() => {{ {_NODE} return Object.fromEntries(node.widgets.map(({{ name, value }}) => [name, value])) }}"
_SAVED_VALUES = f"() => {{ {_NODE} return node.serialize().widgets_values }}"
_TOGGLE = f"() => {{ {_NODE} node.toggleAdvanced() }}"
_LOAD = """([type, values]) => app.loadGraphData({
  last_node_id: 1, last_link_id: 0, links: [], groups: [], config: {}, extra: {}, version: 0.4,
  nodes: [{ id: 1, type, pos: [0, 0], size: [300, 500], flags: {}, order: 0, mode: 0, inputs: [], outputs: [],
            properties: {}, widgets_values: values }],
})"""


@pytest.fixture(params=DIALS)
def new_node(page, request) -> str:
    """The type of the only node on the canvas, as it comes from the menu."""
    page.tab.evaluate(_NEW, request.param)
    return request.param


def test_a_new_node_shows_its_dial(page, new_node):
    assert page.tab.evaluate(_SHOWN) == DIALS[new_node]


def test_show_advanced_shows_all_and_folds_again(page, new_node):
    page.tab.evaluate(_TOGGLE)
    assert page.tab.evaluate(_SHOWN) == list(page.tab.evaluate(_VALUES))
    page.tab.evaluate(_TOGGLE)
    assert page.tab.evaluate(_SHOWN) == DIALS[new_node]


@pytest.mark.parametrize(
    ("node_type", "widget", "value", "more"),
    [
        ("Jenga", "step_reuse", "adaptive", ["reuse_threshold"]),
        ("JengaAttention", "quality", "custom", ["density", "anchor_distance"]),
        ("JengaProgressiveSampler", "preset", "custom", ["scales", "switch_points", "shift_ratios"]),
        ("JengaProgressiveSampler", "step_reuse", "adaptive", ["reuse_threshold"]),
    ],
)
def test_what_counts_at_a_setting_is_shown_at_it(page, node_type, widget, value, more):
    page.tab.evaluate(_NEW, node_type)
    page.set_widgets(node_type, **{widget: value})
    shown = set(page.tab.evaluate(_SHOWN))
    assert shown == {*DIALS[node_type], widget, *more}


@pytest.mark.parametrize("node_type", SAVED)
def test_a_saved_workflow_has_its_values_in_their_places(page, node_type):
    page.tab.evaluate(_LOAD, [node_type, SAVED[node_type]])
    values = list(page.tab.evaluate(_VALUES).values())
    assert values[: len(SAVED[node_type])] == SAVED[node_type]
    assert page.tab.evaluate(_SAVED_VALUES) == values
    assert page.tab.evaluate(_VALUES).get("quality", "") in ("", "from preset", "balanced")
    assert set(page.tab.evaluate(_SHOWN)) > set(DIALS[node_type])  # what was changed is in view

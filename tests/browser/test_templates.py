"""Every workflow opens from the template browser as it was laid out: all nodes known, none over another."""

import pytest
from layout import overlapping

from demo.server import ROOT

WORKFLOWS = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))


@pytest.mark.parametrize("name", WORKFLOWS)
def test_it_opens(page, name):
    page.open_template("jenga", name)
    assert page.tab.get_by_role("dialog").count() == 0  # nothing is missing, nothing was refused
    assert page.tab.evaluate("() => app.graph.nodes.filter((node) => node.has_errors).length") == 0
    boxes = page.boxes()
    assert len(boxes) > 10
    assert overlapping(boxes) == []

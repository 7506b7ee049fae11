"""Every workflow opens from the template browser as it was laid out: all nodes known, none over another."""

import pytest
from layout import overlapping

from demo.server import ROOT

# The page marks them where their file is not there; a test machine has the demo's files alone.
LOADERS = {
    "UNETLoader",
    "CLIPLoader",
    "DualCLIPLoader",
    "CLIPVisionLoader",
    "VAELoader",
    "LoraLoaderModelOnly",
    "LoadImage",
}
WORKFLOWS = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))


@pytest.mark.parametrize("name", WORKFLOWS)
def test_it_opens(page, name):
    page.open_template("jenga", name)
    assert page.tab.get_by_role("dialog").count() == 0  # which would name missing nodes
    assert page.marked() <= LOADERS
    boxes = page.boxes()
    assert len(boxes) > 10
    assert overlapping(boxes) == []

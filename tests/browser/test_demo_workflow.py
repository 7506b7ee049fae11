"""The demo workflow as a user meets it: opened from the template browser, run, and read off the nodes."""

import numpy as np
import pytest
from layout import overlapping

WORKFLOW = "demo_ab"
RUN_SECONDS = 240
PICTURES = ("Kept share, layer × step", "PSNR and SSIM", "Save Video")  # titles of the nodes that show one


@pytest.fixture(scope="module")
def before(page) -> dict[str, int]:
    """The demo workflow as it opens: colours on the nodes that will show a picture."""
    page.open_template("jenga", WORKFLOW)
    return {title: colours(page.screenshot(title)) for title in PICTURES}


@pytest.fixture(scope="module")
def finished(page, before):
    """The page after a run that is small enough for two cores."""
    page.set_widgets("EmptyHunyuanLatentVideo", width=256, height=160, length=33)
    page.set_widgets("BasicScheduler", steps=6)
    page.set_widgets("JengaAttention", min_tokens=0)
    page.run(RUN_SECONDS)
    return page


def colours(image) -> int:
    """How many different colours a picture has."""
    return len(np.unique(np.asarray(image).reshape(-1, 3), axis=0))


def test_the_template_browser_shows_the_thumbnail(page):
    picture = page.template_card("jenga", WORKFLOW).get_by_alt_text(WORKFLOW)
    size = picture.evaluate(
        "async (image) => { await image.decode(); return [image.naturalWidth, image.naturalHeight] }"
    )
    assert size == [384, 384]  # ComfyUI's own picture for a workflow without one is larger
    page.tab.keyboard.press("Escape")


def test_the_sampler_says_what_ran(finished):
    status = finished.status("JengaProgressiveSampler")
    assert "stage 2" in status and "attention calls carved" in status
    assert finished.tab.get_by_text(status).is_visible()


def test_the_report_is_on_its_node(finished):
    assert finished.shows("kept share of video keys")


@pytest.mark.parametrize("title", PICTURES)
def test_pictures_are_on_their_nodes(finished, before, title):
    assert colours(finished.screenshot(title)) > 2 * before[title]


def test_the_comparison_plays(finished):
    video = finished.tab.locator("video")
    assert video.count() == 1 and video.is_visible()
    width, height = video.evaluate("(video) => [video.videoWidth, video.videoHeight]")
    assert (width, height) == (2 * 256 + 2, 160)


def test_no_node_covers_another(finished):
    assert overlapping(finished.boxes()) == []

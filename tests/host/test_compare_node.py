"""Jenga Compare in real ComfyUI: pictures and videos in, every output out, and what it refuses."""

from fractions import Fraction

import pytest
from comfy_host import PromptFailed

from workflows import node


def clip(color: int, frames: int = 5, size: int = 32) -> dict:
    return node("EmptyImage", width=size, height=size, batch_size=frames, color=color)


def video(images: str, fps: float = 16.0) -> dict:
    return node("CreateVideo", images=[images, 0], fps=fps)


def compared(sides: dict, **nodes) -> dict:
    """A prompt that compares what `sides` connects, with the widgets of an older workflow, and captures it all."""
    widgets = {"mode": "side by side", "label_a": "", "label_b": "", "gain": 4.0}
    links = {name: [source, 0] for name, source in sides.items()}
    prompt = {**nodes, "compare": node("JengaCompare", **widgets, **links)}
    prompt["capture"] = node("JengaTestCaptureAny", **{f"value{slot}": ["compare", slot] for slot in range(4)})
    return prompt


def results(host, prompt: dict) -> tuple:
    """Clip, plot, table, video."""
    return tuple(host.run(prompt)["capture"]["values"])


def test_pictures_as_an_older_workflow_connects_them(host):
    shown, plot, table, made = results(
        host, compared({"images_a": "red", "images_b": "blue"}, red=clip(0xFF0000), blue=clip(0x0000FF))
    )
    assert shown.shape == (5, 32, 66, 3)
    assert shown[0, 16, 16].tolist() == [1, 0, 0] and shown[0, 16, 50].tolist() == [0, 0, 1]
    assert "| PSNR | 1.76 dB |" in table  # two of three channels off by 1
    assert plot.shape[0] == 1
    components = made.get_components()
    assert components.frame_rate == Fraction(16) and components.images.equal(shown)


def test_videos_and_a_mixed_pair_measure_the_same(host):
    clips = {"red": clip(0xFF0000), "blue": clip(0x0000FF), "blues": video("blue")}
    mixed = results(host, compared({"images_a": "red", "video_b": "blues"}, **clips))
    both = results(host, compared({"video_a": "reds", "video_b": "blues"}, **clips, reds=video("red")))
    assert mixed[0].equal(both[0]) and mixed[2] == both[2]
    assert "1.76 dB" in both[2]


def test_a_saved_video_is_decoded_again_and_the_comparison_can_be_saved(host):
    """One file in, one file out: what *Load Video* hands on is decoded, what this node hands on is encoded."""
    red = {"red": clip(0xFF0000, 9), "reds": video("red", 8.0)}
    saved = host.run(
        {**red, "save": node("SaveVideo", video=["reds", 0], filename_prefix="in", format="mp4", codec="auto")}
    )
    file = host.base / "output" / saved["save"]["images"][0]["filename"]
    loaded = {**red, "load": node("LoadVideo", file=f"{file.name} [output]")}
    prompt = compared({"images_a": "red", "video_b": "load"}, **loaded)
    prompt["compare"]["inputs"]["fps"] = 24.0
    prompt["save"] = node("SaveVideo", video=["compare", 3], filename_prefix="out", format="mp4", codec="auto")
    outputs = host.run(prompt)
    assert outputs["capture"]["values"][0].shape == (9, 32, 66, 3)
    assert outputs["save"]["images"][0]["filename"].startswith("out")
    assert outputs["capture"]["values"][3].get_components().frame_rate == Fraction(24)


@pytest.mark.parametrize("sides", [{"video_a": "fast", "video_b": "fast"}, {"images_a": "red", "video_b": "fast"}])
def test_a_clip_that_plays_at_another_speed_is_said(host, sides):
    clips = {"red": clip(0xFF0000), "fast": video("red", 24.0)}
    words = "24 frames per second in, 16 out: the widget fps says how fast it plays"
    assert words in results(host, compared(sides, **clips))[2]
    prompt = compared(sides, **clips)
    prompt["compare"]["inputs"]["fps"] = 24.0
    assert "per second" not in results(host, prompt)[2]


def test_unequal_lengths_and_rates_are_said(host):
    sides = {"video_a": "long", "video_b": "short"}
    clips = {"nine": clip(0, 9), "five": clip(0, 5), "long": video("nine", 16.0), "short": video("five", 24.0)}
    shown, _, table, _ = results(host, compared(sides, **clips))
    assert shown.shape[0] == 5
    assert "dense, 5 frames" not in table and "b against a, 5 frames" in table
    assert "9 and 5 frames: the first 5 are compared" in table
    assert "16 and 24 frames per second: frames are matched by number, not by time" in table


@pytest.mark.parametrize(
    "sides, message",
    [
        ({"images_b": "a"}, "side a must have exactly one of images_a and video_a, got none; connect one"),
        ({"images_a": "a", "video_a": "v", "images_b": "a"}, "side a must .* got both; disconnect one"),
        ({"images_a": "a", "images_b": "small"}, "b must have the size of a, 32×32, got 16×16; .* Upscale Image"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_remedy(host, sides, message):
    with pytest.raises(PromptFailed, match=message):
        host.run(compared(sides, a=clip(0), small=clip(0, size=16), v=video("a")))

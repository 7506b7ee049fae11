"""Quality without a reference: each measure against what it must be, the intervals, and the tables."""

import json

import pytest
import scipy.linalg
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from benchmarks import bootstrap, clip_metrics, clip_runs, clip_tables
from benchmarks.bootstrap import Estimate
from benchmarks.clip_set import ClipSet
from demo import prompts, scenes
from demo.prompts import SLOTS


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def clip_of(generator: torch.Generator) -> torch.Tensor:
    """A procedural clip [F, H, W, 3]."""
    scene = scenes.sample(1, generator, "cpu")
    return scenes.render(scene, 80, 128)[0].movedim(0, -1)


@pytest.mark.parametrize(("one", "other"), [(200, 300), (20, 12)])  # the second: fewer clips than features
def test_the_frechet_distance_is_that_of_the_covariances(generator, one, other):
    a = torch.randn(one, 16, generator=generator) @ torch.randn(16, 16, generator=generator)
    b = 1 + torch.randn(other, 16, generator=generator) @ torch.randn(16, 16, generator=generator)
    (mean_a, cov_a), (mean_b, cov_b) = ((x.double().mean(0), x.double().T.cov()) for x in (a, b))
    root = torch.from_numpy(scipy.linalg.sqrtm((cov_a @ cov_b).numpy()).real)
    expected = float((mean_a - mean_b).square().sum() + (cov_a + cov_b - 2 * root).trace())
    assert clip_metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-5)


def test_the_frechet_distance_of_a_scaled_and_moved_set_is_known(generator):
    a = torch.randn(50, 8, generator=generator).double()
    variance = float(a.var(0).sum())
    assert clip_metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    moved = clip_metrics.frechet_distance(a, a + 3)
    assert moved == pytest.approx(9 * 8)
    scaled = 2 * (a - a.mean(0)) + a.mean(0)
    assert clip_metrics.frechet_distance(a, scaled) == pytest.approx(variance)  # tr(A + 4 A - 2 · 2 A)


def test_words_found_counts_each_slot_by_itself():
    asked = {slot: torch.tensor([0, 1]) for slot in SLOTS}
    words = {**asked, "colour": torch.tensor([0, 2])}
    found = clip_metrics.words_found(words, asked)
    assert found.shape == (2, len(SLOTS))
    assert found.sum() == 2 * len(SLOTS) - 1 and found[1, list(SLOTS).index("colour")] == 0


def test_half_the_contrast_is_six_decibels_of_sharpness(generator):
    clip = clip_of(generator)
    lost = clip_metrics.sharpness(clip) - clip_metrics.sharpness(0.5 * clip)
    assert lost == pytest.approx(6.02, abs=0.01)
    planes = F.avg_pool2d(clip.movedim(-1, 1), 3, stride=1, padding=1, count_include_pad=False)
    assert clip_metrics.sharpness(planes.movedim(1, -1)) < clip_metrics.sharpness(clip) - 1


def test_a_picture_that_moves_evenly_is_smooth_and_one_that_trembles_is_not(generator):
    wide = F.interpolate(torch.rand(1, 3, 20, 60, generator=generator), size=(80, 240), mode="bilinear")[0]
    steady = torch.stack([wide[:, :, 2 * frame : 2 * frame + 128] for frame in range(9)]).movedim(1, -1)
    places = [2 * frame + 6 * (frame % 2) for frame in range(9)]
    trembling = torch.stack([wide[:, :, place : place + 128] for place in places]).movedim(1, -1)
    flicker = (steady * (0.8 + 0.2 * (torch.arange(9) % 2)).view(-1, 1, 1, 1)).clamp(0, 1)
    still = clip_metrics.motion_smoothness(steady[:1].expand(9, -1, -1, -1))
    assert still == pytest.approx(1, abs=1e-6)
    smooth = clip_metrics.motion_smoothness(steady)
    assert smooth > 0.995  # the edges come from outside of the picture
    assert clip_metrics.motion_smoothness(trembling) < smooth - 0.05
    assert clip_metrics.motion_smoothness(flicker) < smooth - 0.05


def test_the_interval_of_a_mean_is_that_of_its_standard_error(generator):
    values = torch.randn(400, generator=generator).double()
    found = bootstrap.mean(values)
    half = 1.96 * float(values.std()) / 20
    assert found.value == pytest.approx(float(values.mean()))
    assert found.low == pytest.approx(found.value - half, rel=0.1, abs=0.02)
    assert found.high == pytest.approx(found.value + half, rel=0.1, abs=0.02)


def test_the_interval_of_a_distance_holds_the_distance(generator):
    """Drawings with replacement are farther apart than the sets: a plain percentile interval lies above the value."""
    a, b = (torch.randn(40, 16, generator=generator) for _ in range(2))
    distance = lambda rows: clip_metrics.frechet_distance(a[rows], b[rows])  # noqa: E731
    found = bootstrap.estimate(distance, 40, biased=True)
    assert found.low < found.value < found.high
    assert bootstrap.estimate(distance, 40).low > found.value


def test_intervals_that_touch_are_not_apart():
    assert not Estimate(1, 0, 2).apart_from(Estimate(3, 2, 4))
    assert Estimate(1, 0, 2).apart_from(Estimate(3, 2.1, 4)) and Estimate(3, 2.1, 4).apart_from(Estimate(1, 0, 2))


def test_every_word_has_its_share_and_the_texts_say_the_words():
    scene = clip_runs.draw_scenes(26, seed=3)
    for slot, words in SLOTS.items():
        counts = torch.bincount(scene[slot], minlength=len(words))
        assert counts.max() - counts.min() <= 1
    for row, text in enumerate(clip_runs.texts(scene)):
        chosen, unknown = prompts.parse(text)
        assert not unknown
        assert chosen == {slot: words[scene[slot][row]] for slot, words in SLOTS.items()}
    other = clip_runs.same_words(scene, seed=4)
    assert all(torch.equal(other[slot], scene[slot]) for slot in SLOTS) and not torch.equal(other["x"], scene["x"])


def made_set(asked: dict[str, torch.Tensor], wrong: float, shift: float, seed: int) -> ClipSet:
    """Clips of which a share has no word right, and whose features and sharpness lie elsewhere by `shift`."""
    generator = torch.Generator().manual_seed(seed)
    count = len(asked["colour"])
    parts = []
    for slot, words in SLOTS.items():
        miss = torch.rand(count, generator=generator) < wrong
        parts.append(F.one_hot((asked[slot] + miss) % len(words), len(words)).float())
    numbers = {name: torch.randn(count, generator=generator).double() + shift for name in ("smoothness", "sharpness")}
    same = {name: torch.ones(count).double() for name in ("psnr", "ssim", "seconds", "calls", "cost")}
    features = torch.randn(count, 8, generator=generator) + shift
    return ClipSet(torch.cat(parts, 1), features, **numbers, **same, notes=("a fallback",) if shift else ())


def test_the_tables_mark_what_lies_apart_from_the_floor(tmp_path):
    scene = clip_runs.draw_scenes(60, seed=1)
    asked = {slot: scene[slot] for slot in SLOTS}
    made = {clip_runs.DENSE: (0.1, 0.0), clip_runs.OTHER_SEEDS: (0.1, 0.0), "good": (0.1, 0.0), "broken": (0.6, 2.0)}
    for seed, (name, (wrong, shift)) in enumerate(made.items()):
        clips = made_set(asked, wrong, shift, seed)
        clips.save(tmp_path / clip_runs.file_name(name))
        again = ClipSet.load(tmp_path / clip_runs.file_name(name))
        assert torch.equal(again.logits, clips.logits) and again.notes == clips.notes and len(again) == 60
    reference = torch.randn(240, 8, generator=torch.Generator().manual_seed(9))
    save_file({"features": reference}, tmp_path / clip_tables.REFERENCE)
    words = {slot: asked[slot].tolist() for slot in SLOTS}
    setting = {"introduction": "Where.", "asked": words, "names": [*made, "not sampled"], "steps": 50, "size": "full"}
    (tmp_path / clip_tables.SETTING).write_text(json.dumps(setting))
    clip_tables.write(tmp_path, say=lambda text: None)

    lines = (tmp_path / "quality.md").read_text().splitlines()
    rows = {name: [line for line in lines if line.startswith(f"| {name} |")] for name in made}
    assert all(len(found) == 2 for found in rows.values())  # a row in each table
    assert not any("**" in line for name in ("dense", "good") for line in rows[name])
    # Words, both distances, smoothness and sharpness; and every slot.
    assert rows["broken"][0].count("**") == 2 * 5 and rows["broken"][1].count("**") == 2 * len(SLOTS)
    assert "- broken: a fallback" in lines
    figures = json.loads((tmp_path / "quality.json").read_text())["rows"]
    assert list(figures) == list(made)
    distance = {name: row["quality"]["Fréchet to dense"] for name, row in figures.items()}
    assert distance["broken"]["low"] > distance[clip_runs.OTHER_SEEDS]["high"]

    (tmp_path / clip_runs.file_name(clip_runs.OTHER_SEEDS)).unlink()  # without the floor nothing is told by it
    clip_tables.write(tmp_path, say=lambda text: None)
    lines = (tmp_path / "quality.md").read_text().splitlines()
    assert not any("**" in line for line in lines if line.startswith("| broken |"))
    figures = json.loads((tmp_path / "quality.json").read_text())["rows"]
    assert list(figures) == ["dense", "good", "broken"]
    assert all({"PSNR dB", "words found"} <= set(row["quality"]) for row in figures.values())
    assert not any("Fréchet to dense" in row["quality"] for row in figures.values())

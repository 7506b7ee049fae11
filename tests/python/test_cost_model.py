"""The cost model of whole runs, and the frontier that is drawn with it."""

import pytest

from benchmarks import frontier
from benchmarks.clip_runs import file_name
from benchmarks.cost_model import StageWork, StepCost, fit, mean_work, tables
from benchmarks.search_space import DIAL, PREFIX, SPACE, STAGES
from jenga.sampling.presets import ROWS

# As benchmarks.full_model prints it: rest 2 s, dense 10 s, carved 0.5 s + 8 s · share.
OUTPUT = """NVIDIA, torch 2.11, ComfyUI 0.30.0, bf16

## Model A, 1280 × 720 × 125

12.82 · 10⁹ weights, 115,200 video tokens, 256 text tokens

| run | s | × stock | attention s | rest s | kept share | peak GiB |
|---|---|---|---|---|---|---|
| dense, stock | 12.000 | 1.000 | 10.000 | 2.000 | 1.000 | 33.5 |
| dense, cuDNN | 7.000 | 1.714 | 5.000 | 2.000 | 1.000 | 33.5 |
| Jenga Attention, 10% | 3.300 | 3.636 | 1.300 | 2.000 | 0.100 | 34.3 |
| Jenga Attention, 20% | 4.100 | 2.927 | 2.100 | 2.000 | 0.200 | – |

dense, cuDNN: a note with | in it

## Model A, 1280 × 720 × 125, 50 steps

| run | s | × stock |
|---|---|---|
| dense, stock | 600.00 | 1.00 |

## Model B, 832 × 480 × 81

| run | s | × stock | attention s | rest s | kept share | peak GiB |
|---|---|---|---|---|---|---|
| dense, stock | 0.9 | 1.000 | 0.7 | 0.2 | 1.000 | 4.2 |
"""
COST = StepCost(rest=2, dense=10, anchor=5, carved=0.5, share=8)


def test_the_table_of_full_model_is_read_and_fitted():
    rows = tables(OUTPUT)
    assert list(rows) == ["Model A", "Model B"] and list(rows["Model A"])[1] == "dense, cuDNN"
    assert "peak GiB" not in rows["Model A"]["Jenga Attention, 20%"]
    found = fit(rows["Model A"])
    assert (found.rest, found.dense, found.anchor) == (2, 10, 5)
    assert (found.carved, found.share) == pytest.approx((0.5, 8))
    assert tables(OUTPUT, 50) == {"Model A": {"dense, stock": {"s": 600, "× stock": 1}}}
    assert tables(OUTPUT, 30) == {}
    with pytest.raises(ValueError, match="two carved runs of different kept shares, got \\[\\]"):
        fit(rows["Model B"])
    with pytest.raises(ValueError, match="rows must have 'dense, stock', got none"):
        fit({})


def test_a_run_is_the_sum_of_its_evaluations():
    dense = StageWork(1.0, 50, dense=1.0, anchors=0.0, kept=1.0)
    assert COST.seconds([dense]) == pytest.approx(50 * 12)
    carved = StageWork(1.0, 10, dense=0.0, anchors=0.0, kept=0.1)
    assert COST.seconds([carved]) == pytest.approx(10 * (2 + 0.5 + 0.8))
    anchored = StageWork(1.0, 8, dense=0.0, anchors=0.125, kept=0.1)
    assert COST.seconds([anchored]) == pytest.approx(8 * 3.3 + 5)  # one evaluation's worth of anchors
    small = StageWork(0.5, 4, dense=0.0, anchors=0.0, kept=0.4)
    assert COST.seconds([small]) == pytest.approx(4 * ((2 + 0.5) / 4 + 8 * 0.4 / 16))
    assert COST.seconds([small, carved]) == pytest.approx(COST.seconds([small]) + COST.seconds([carved]))


def test_the_mean_over_prompts_weighs_by_computed_evaluations():
    one = [StageWork(0.75, 6, 0.0, 0.5, 0.2), StageWork(1.0, 5, 0.0, 0.0, 0.1)]
    other = [StageWork(0.75, 2, 1.0, 0.0, 1.0)]
    small, full = mean_work([one, other])
    assert (small.scale, small.computed, full.computed) == (0.75, 4, 2.5)
    assert (small.dense, small.anchors, small.kept) == pytest.approx((0.25, 0.375, 0.4))
    assert COST.seconds(mean_work([one])) == pytest.approx(COST.seconds(one))
    assert mean_work([]) == []


def row(work: list[dict], psnr: float | None, distance: float) -> dict:
    measures = {"words found": 0.9, "Fréchet to dense": distance} | ({} if psnr is None else {"PSNR dB": psnr})
    return {"work": work, "quality": {name: {"value": x, "low": x - 1, "high": x + 1} for name, x in measures.items()}}


def stage(computed: float, kept: float) -> list[dict]:
    return [{"scale": 1.0, "computed": computed, "dense": 0.0, "anchors": 0.0, "kept": kept}]


def test_the_frontier_holds_what_nothing_dominates(tmp_path):
    rows = {
        "dense": row([{"scale": 1.0, "computed": 50, "dense": 1.0, "anchors": 0.0, "kept": 1.0}], None, 1.0),
        "near": row(stage(25, 0.4), 38, 1.0),
        "fast": row(stage(25, 0.1), 25, 1.2),
        "slower and worse": row(stage(30, 0.1), 24, 1.5),
        "slower, worse clip, nearer set": row(stage(30, 0.1), 24, 1.1),
        "sol_attn": row([], 30, 1.3),
        "no work known": row([], 30, 1.0),
        "broken: 4 of 50 calls": row(stage(4, 1.0), 22, 1.0),
        "real clips": row([], None, 3.0),
    }
    points = {point.name: point for point in frontier.points(rows, COST, {"sol_attn": {"s": 300.0}})}
    known = ["dense", "near", "fast", "slower and worse", "slower, worse clip, nearer set", "sol_attn"]
    assert list(points) == [*known, "broken: 4 of 50 calls"]
    assert points["sol_attn"].seconds == 300
    assert points["dense"].seconds == pytest.approx(600) and points["near"].seconds == pytest.approx(25 * 5.7)
    best = {point.name for point in frontier.pareto(list(points.values()))}
    assert best == {"dense", "near", "fast", "slower, worse clip, nearer set"}
    frontier.write(tmp_path, list(points.values()), "A model")
    lines = [line for line in (tmp_path / "frontier.md").read_text().splitlines() if line.startswith("| ")]
    assert lines[1].startswith("| broken: 4 of 50 calls | 42.0 |")
    assert lines[2].startswith("| **fast** | 82.5 | 7.3 | 25.0 | 1.20 [0.20, 2.20] | 90.0 |")
    assert [line.split(" | ")[0] for line in lines[3:]] == [
        "| slower and worse",
        "| **slower, worse clip, nearer set**",
        "| **near**",
        "| sol_attn",
        "| **dense**",
    ]
    frontier.draw(tmp_path / "frontier.png", list(points.values()), "A model")
    assert (tmp_path / "frontier.png").stat().st_size > 10_000


def test_without_dense_of_other_seeds_the_frontier_is_seconds_and_psnr(tmp_path):
    rows = {
        "near": row(stage(25, 0.4), 38, 1.0),
        "fast": row(stage(25, 0.1), 25, 2.0),
        "worse": row(stage(30, 0.1), 24, 1),
    }
    for figures in rows.values():
        del figures["quality"]["Fréchet to dense"]
    points = frontier.points(rows, COST, {})
    assert {point.name for point in frontier.pareto(points)} == {"near", "fast"}
    frontier.write(tmp_path, points, "A model")
    assert "| **near** | 142.5 | 1.0 | 38.0 | – | 90.0 |" in (tmp_path / "frontier.md").read_text()
    frontier.draw(tmp_path / "frontier.png", points, "A model")
    assert (tmp_path / "frontier.png").stat().st_size > 10_000


def test_positions_of_the_dial_are_points_of_the_search_with_the_settings_of_its_rows():
    assert [row.name for row in ROWS if row.dial] == list(DIAL)
    for name, setting in DIAL.items():
        row = next(row for row in ROWS if row.name == name)
        assert setting in SPACE
        assert (setting.kept, setting.distance, setting.threshold) == (
            row.dial.share,
            row.dial.anchor_distance,
            row.dial.threshold,
        )
        assert STAGES[setting.stages] == (
            ", ".join(str(rule.scale) for rule in row.stages),
            ", ".join(str(rule.until) for rule in row.stages[:-1]),
        )
        assert {rule.shift_ratio for rule in row.stages} == {1.0}
    assert frontier.label(DIAL["fast"].name) == "fast (0.75 until .25, kept 5%, first step dense, reuse 0.8)"
    assert frontier.label("turbo") == "turbo"


def test_every_point_of_the_search_has_its_own_file():
    names = {file_name(setting.name) for setting in SPACE}
    assert len(names) == len(SPACE) == len(set(SPACE))
    assert all(setting.name.startswith(PREFIX) for setting in SPACE)

"""One video over several processes through diffusers' own context parallelism: the same as one process."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers", "0.42", reason="diffusers 0.42 or newer is not installed (it needs Python 3.11)")

import diffusers_ranks as ranks_script
from ranks import finish, start

SCRIPT = ranks_script.__file__
REFUSED = {
    "ring": "context parallel: ring_degree must be 1 with carving, got {}; a ring",
    "other_noise": "context parallel: latents must be the same on all ranks, got others on 1",
    "measuring_cache": "context parallel: the step cache must decide by the schedule alone, got FirstBlockCache; it",
}


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request, tmp_path_factory) -> tuple[int, Path]:
    """How many ranks ran every case, and where each wrote what it got."""
    folder = tmp_path_factory.mktemp(f"ranks{request.param}")
    assert finish(start(SCRIPT, folder, request.param, *ranks_script.CASES, *REFUSED)) == [0] * request.param
    return request.param, folder


@pytest.fixture(scope="module")
def alone() -> dict:
    """What one process gives, made once for each case."""
    return {}


@pytest.mark.parametrize("case", ranks_script.CASES)
def test_ranks_give_what_one_process_gives(case, ranks, alone):
    number, folder = ranks
    if case not in alone:
        alone[case] = ranks_script.CASES[case](None)
    expected, report = alone[case]
    errors = {path.name: path.read_text() for path in folder.glob(f"{case}.*.txt")}
    assert not errors
    for rank in range(number):
        found, own_report = torch.load(folder / f"{case}.{rank}.pt")
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert own_report.get("backends") == report.get("backends")
        assert own_report.get("fallbacks") == report.get("fallbacks")
        assert own_report.get("anchors") == report.get("anchors")
        notes = [note for note in own_report.get("notes", ()) if note.startswith(f"one video over {number} ranks: ")]
        assert len(notes) == (rank == 0 and bool(report))
        assert not notes or notes[0].count(" s") == number


@pytest.mark.parametrize("case", REFUSED)
def test_what_ranks_cannot_agree_on_is_refused_on_all_of_them(case, ranks):
    number, folder = ranks
    for rank in range(number):
        text = (folder / f"{case}.{rank}.txt").read_text()
        assert text.startswith(f"ValueError: {REFUSED[case].format(number)}")


@pytest.mark.parametrize("number", [2, 4])
def test_a_rank_that_ends_ends_the_run_with_a_clear_error(number, tmp_path):
    assert finish(start(SCRIPT, tmp_path, number, "killed")) == [9 if rank == 1 else 0 for rank in range(number)]
    for rank in set(range(number)) - {1}:
        text = (tmp_path / f"killed.{rank}.txt").read_text()
        words = f"RuntimeError: context parallel: all {number} ranks must stay until the run is over, got an error"
        assert text.startswith(words) and f"on rank {rank}: " in text
        assert text.endswith("Another rank has most likely ended: its own error says why, look there first")


def test_a_plan_for_a_transformer_that_has_none():
    plan = ranks_script.context_parallel_plan
    with pytest.raises(
        ValueError, match="must be of Wan, LTX, HunyuanVideo or MiniMax H3, got MochiTransformer3DModel"
    ):
        plan(ranks_script.models.mochi()[0])
    wan = ranks_script.models.wan()[0]
    assert plan(wan) is wan._cp_plan

"""What the ranks of one run agree on, without an engine."""

import pytest
import torch
import torch.distributed as dist

from jenga.integrations import ranks
from jenga.integrations.ranks import heads_of_rank, joint_order, refuse_ring, shared_run
from jenga.report.report import Report
from jenga.runtime.run import Run


@pytest.mark.parametrize(("video", "context", "number"), [(8, 4, 2), (7, 3, 2), (9, 2, 4), (6, 3, 1)])
def test_joint_sequences_come_into_raster_order_and_back(video, context, number):
    tokens = torch.arange(video + context).reshape(1, -1, 1, 1)
    parts = [part.tensor_split(number, 1) for part in tokens.split([video, context], 1)]
    exchanged = torch.cat([piece for pair in zip(*parts, strict=True) for piece in pair], 1)
    order = joint_order(video, context, number)
    assert torch.equal(order.raster(exchanged), tokens) and torch.equal(order.back(tokens), exchanged)
    assert joint_order(video, 0, ranks) is None


@pytest.mark.parametrize(("heads", "number"), [(4, 2), (5, 2), (6, 4)])
def test_a_rank_gets_the_mask_of_its_heads(heads, number):
    mask = torch.arange(heads).reshape(1, heads, 1, 1).expand(1, heads, 1, 3)
    most = -(-heads // number)
    local = [max(0, min(most, heads - rank * most)) for rank in range(number)]
    parts = [heads_of_rank(mask, heads, count, rank, number) for rank, count in enumerate(local) if count]
    assert torch.equal(torch.cat(parts, 1), mask)
    for whole in (None, mask[:, :1], mask[0, 0]):
        assert heads_of_rank(whole, heads, 1, 1, number) is whole


def test_a_ring_is_refused_in_the_engine_s_words():
    refuse_ring(1, "")
    with pytest.raises(ValueError, match=r"ring_degree must be 1 with carving, got 2; .* Say ulysses=2"):
        refuse_ring(2, "Say ulysses=2")


@pytest.fixture
def group():
    """Of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


@pytest.mark.parametrize("boot", [True, False])
def test_ranks_of_a_machine_share_its_memory(group, monkeypatch, tmp_path, boot):
    """By what this start of the machine is called, which containers on it agree on, else by its name."""
    (tmp_path / "boot_id").write_text("this one\n")
    monkeypatch.setattr(ranks, "BOOT", tmp_path / ("boot_id" if boot else "absent"))
    monkeypatch.setattr(ranks.socket, "gethostname", lambda: "this one\n")
    gathered = ranks.gathered
    others = ["another", "this one\n", "another"]
    monkeypatch.setattr(ranks, "gathered", lambda own, group: gathered(own, group) + others)
    assert ranks.ranks_of_host(group) == 2


def test_a_shared_run_tells_what_each_rank_took_and_passes_errors_on(group):
    run = Run(Report())
    with shared_run(group, run):
        assert run.sharers == 1
    assert [note[:25] for note in run.listener.summary()["notes"]] == ["one video over 1 ranks: 0"]
    with pytest.raises(KeyError), shared_run(group, run):
        raise KeyError

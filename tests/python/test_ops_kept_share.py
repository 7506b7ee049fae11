"""kept_share: against plain torch and against fp64, over whole and ragged blocks, and where a call takes it from."""

import pytest
import torch

from jenga import CarvedAttention, JengaConfig, TokenGrid
from jenga.carving import ops
from jenga.carving.config import Q_BLOCK_SIZE
from jenga.carving.operands import BlockLists
from jenga.carving.residuals import kept_share_of


def draw(num_video, kv_block, device, batch=2, heads=3):
    """Random lists, every fifth of them empty, and the share of token pairs that they keep, in fp64."""
    generator = torch.Generator().manual_seed(num_video)
    num_q, num_kv = (-(-num_video // size) for size in (Q_BLOCK_SIZE, kv_block))
    kept = torch.rand(batch, heads, num_q, num_kv, generator=generator) < torch.rand(
        batch, heads, num_q, 1, generator=generator
    )
    kept.view(-1, num_kv)[::5] = False
    listed = torch.where(kept, torch.arange(num_kv), num_kv).sort(-1).values
    count = kept.sum(-1)
    width = max(int(count.max()), 1)
    index = torch.where(listed < num_kv, listed, -1)[..., :width]
    pairs = kept.repeat_interleave(Q_BLOCK_SIZE, 2).repeat_interleave(kv_block, 3)[:, :, :num_video, :num_video]
    return BlockLists(index.to(device, torch.int32), count.to(device, torch.int32)), pairs.double().mean().item()


@pytest.mark.parametrize("kv_block", [64, 128])
@pytest.mark.parametrize("num_video", [5, 640, 448, 576, 1000])
def test_counts_token_pairs(num_video, kv_block, device, poisoned_outputs):
    lists, exact = draw(num_video, kv_block, device)
    share = ops.kept_share(lists, num_video, kv_block)
    assert (share.dtype, share.shape, share.device) == (torch.float32, (), lists.count.device)
    assert share.item() == pytest.approx(exact, rel=1e-7)
    torch.testing.assert_close(share, kept_share_of(lists, num_video, kv_block), rtol=1e-6, atol=0)


def test_more_lists_than_a_thread_block_takes_at_a_time(device):
    generator = torch.Generator().manual_seed(0)
    num_video = 115_200 - 40
    count = torch.randint(0, 8, (2, 24, 900), generator=generator, dtype=torch.int32)
    index = torch.randint(1, 257, (2, 24, 900, 7), generator=generator).cumsum(-1).int()
    index[..., 3] = torch.where(count == 4, 1799, index[..., 3])  # an eighth of the lists has the last key block
    index.masked_fill_(torch.arange(7) >= count[..., None], -1)
    lists = BlockLists(index.to(device), count.to(device))
    torch.testing.assert_close(
        ops.kept_share(lists, num_video, 64), kept_share_of(lists, num_video, 64), rtol=1e-5, atol=0
    )


def test_all_and_nothing(device):
    index = torch.arange(16, dtype=torch.int32, device=device).expand(1, 2, 8, -1)  # not contiguous
    count = torch.full((1, 2, 8), 16, dtype=torch.int32, device=device)
    assert ops.kept_share(BlockLists(index, count), 1000, 64).item() == 1
    nothing = BlockLists(torch.full_like(index, -1), torch.zeros_like(count))
    assert ops.kept_share(nothing, 1000, 64).item() == 0


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_a_call_takes_it_from_its_backend(backend, monkeypatch):
    if backend == "native" and not ops.native_status().cpu:
        pytest.skip(ops.native_status().reason)
    calls = []

    def kept_share(lists, num_video, kv_block_size):
        calls.append((num_video, kv_block_size))
        return kept_share_of(lists, num_video, kv_block_size)

    monkeypatch.setattr(ops, "kept_share", kept_share)
    q, k, v = torch.randn(3, 1, 2, 440, 32, generator=torch.Generator().manual_seed(0))
    result = CarvedAttention(JengaConfig(backend=backend, strict=True))(q, k, v, TokenGrid(3, 12, 12), 8)
    assert calls == ([(432, 64)] if backend == "native" else [])
    assert 0 < result.kept_share < 1

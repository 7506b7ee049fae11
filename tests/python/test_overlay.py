"""Kept blocks on frames: hand-made lists light exactly their tokens, on the curve and in the video."""

import pytest
import torch

from jenga import JengaConfig, TokenGrid
from jenga.carving import curves
from jenga.carving.operands import BlockLists
from jenga.report import overlay
from jenga.report.kept_blocks import BYTES_PER_LAYER, KeptBlocks

GRID = TokenGrid(3, 8, 12)  # 288 tokens: key blocks of 64 + 64 + 64 + 64 + 32, query blocks of 128 + 128 + 32


def lists(index: torch.Tensor, num_heads: int = 2, batch: int = 2) -> BlockLists:
    """Every head and query block of GRID keeps `index`; the second head nothing but its first entry."""
    rows = index.int().expand(batch, num_heads, 3, -1).clone()
    count = torch.full((batch, num_heads, 3), index.numel(), dtype=torch.int32)
    rows[:, 1, :, 1:], count[:, 1] = -1, 1
    return BlockLists(rows, count)


def test_listed_blocks_light_exactly_their_tokens_of_the_raster():
    """In raster order a block is a run of rows, which can be written down."""
    volume = overlay.kept_volume(torch.tensor([0, 4, -1]), 2, GRID, "raster", 64)
    expected = torch.zeros(288, dtype=torch.bool)
    expected[:64] = expected[256:288] = True  # the last block is ragged
    assert volume.shape == (3, 8, 12) and torch.equal(volume.flatten(), expected)


@pytest.mark.parametrize("curve", ["gilbert3d", "gilbert2d_sliced"])
def test_listed_blocks_light_exactly_their_tokens_of_the_curve(curve):
    volume = overlay.kept_volume(torch.tensor([1, 3]), 2, GRID, curve, 64)
    order = curves.curve_order(3, 8, 12, curve).tolist()
    lit = {order[position] for position in (*range(64, 128), *range(192, 256))}
    assert set(volume.flatten().nonzero().flatten().tolist()) == lit


def test_what_lies_past_the_count_is_not_lit():
    assert overlay.kept_volume(torch.tensor([2, 4]), 1, GRID, "raster", 64).sum() == 64
    assert not overlay.kept_volume(torch.tensor([-1]), 0, GRID, "raster", 64).any()


@pytest.mark.parametrize("curve", ["gilbert3d", "raster"])
def test_query_blocks_tile_the_video_and_a_place_finds_its_own(curve):
    volumes = torch.stack([overlay.query_volume(block, GRID, curve) for block in range(3)])
    assert torch.equal(volumes.sum(0), torch.ones(3, 8, 12, dtype=torch.long))
    assert volumes.sum((1, 2, 3)).tolist() == [128, 128, 32]
    for x, y, frame, token in ((0, 0, 0, (0, 0, 0)), (1, 1, 1, (2, 7, 11)), (0.51, 0.26, 0.34, (1, 2, 6))):
        assert volumes[overlay.query_block_at(x, y, frame, GRID, curve)][token]


def test_a_place_outside_of_the_clip_is_refused():
    with pytest.raises(ValueError, match="overlay: y must be from 0 to 1, a fraction of the clip, got 1.5"):
        overlay.query_block_at(0.5, 1.5, 0.5, GRID, "raster")


def test_latent_frames_of_video_frames():
    assert overlay.latent_frames(9, GRID).tolist() == [0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert overlay.latent_frames(1, TokenGrid(1, 2, 2)).tolist() == [0]
    with pytest.raises(ValueError, match="frames must be the 9 that 3 latent frames decode to, got 10; connect"):
        overlay.latent_frames(10, GRID)


def test_drawing_dims_tints_and_outlines():
    kept, query = (torch.zeros(3, 8, 12, dtype=torch.bool) for _ in range(2))
    kept[1, 2, 3] = query[2, 4:6, 0:2] = True
    frames = torch.full((9, 8 * 8, 12 * 8, 3), 0.5)
    drawn = overlay.draw(frames, kept, query, GRID)
    tinted = 0.5 * (1 - overlay.TINT) + torch.tensor(overlay.KEPT_COLOR) * overlay.TINT
    dark = torch.full((3,), 0.5 * overlay.DIM)
    for frame in range(9):
        lit = (drawn[frame] - tinted).abs().amax(-1) < 1e-6
        expected = torch.zeros(64, 96, dtype=torch.bool)
        expected[16:24, 24:32] = 1 <= frame <= 4
        assert torch.equal(lit, expected), frame
        cyan = (drawn[frame] == torch.tensor(overlay.QUERY_COLOR)).all(-1)
        assert cyan.any() == (frame >= 5)
    assert cyan[32:48, 0:16].sum() == 16 * 16 - 12 * 12 == cyan.sum()  # closed at the frame's edge, 2 pixels thick
    assert torch.allclose(drawn[8, 40, 8], dark) and torch.allclose(drawn[0, 20, 28], dark)


def test_recorded_lists_come_back_for_the_first_sequence():
    made = lists(torch.tensor([0, 2, 4]))
    made.index[1] = 1  # the second sequence of the batch
    blocks = KeptBlocks.of(made, 7, GRID, JengaConfig(kv_block_size=64, curve="raster"))
    index, count = blocks.row(0, 2)
    assert (index.tolist(), count) == ([0, 2, 4, -1, -1], 3)
    assert blocks.row(1, 0)[1] == 1
    clip = overlay.draw_kept_blocks(torch.ones(9, 64, 96, 3), blocks, 0, 0)
    assert clip.shape == (9, 64, 96, 3)
    for arguments, message in (((2, 0), "head must be from 0 to 1, got 2"), ((0, 3), "query_block .* 0 to 2, got 3")):
        with pytest.raises(ValueError, match=message):
            blocks.row(*arguments)


def test_the_record_of_a_layer_is_bounded():
    """900 query blocks x 1,800 key blocks x 24 heads, HunyuanVideo 720p: five heads fit, and it says so."""
    grid = TokenGrid(32, 45, 80)
    index = torch.zeros(1, 24, 900, 1, dtype=torch.int32)
    blocks = KeptBlocks.of(BlockLists(index, torch.ones(1, 24, 900, dtype=torch.int32)), 0, grid, JengaConfig())
    assert blocks.blocks.shape == (1, 5, 900, 226)
    assert blocks.blocks.untyped_storage().nbytes() <= BYTES_PER_LAYER
    with pytest.raises(ValueError, match=r"head must be from 0 to 4 \(of 24, the first 5 are kept\), got 9"):
        blocks.row(9, 0)

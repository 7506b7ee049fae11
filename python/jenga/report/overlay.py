"""The key blocks that one query block keeps, drawn back onto the frames of the video.

Blocks are runs of the curve, so a block's tokens are found through the curve's order: raster index of every position.
A latent frame shows up in the video frames that it was decoded to: the first one in frame 0, the k-th in the four
frames 4k - 3 .. 4k (videos of 1 + 4k frames, as Wan and HunyuanVideo have them). A token covers its share of the frame.
"""

import torch
import torch.nn.functional as F

from ..carving import curves, ops
from ..carving.config import Q_BLOCK_SIZE, TokenGrid
from .kept_blocks import KeptBlocks
from .picture import Label

KEPT_COLOR = (1.0, 0.65, 0.0)  # orange, laid over what is kept
QUERY_COLOR = (0.0, 1.0, 1.0)  # cyan, around the query block
TINT, DIM = 0.35, 0.3  # how much of the colour a kept token shows, how much light a dropped one keeps
TEMPORAL_STRIDE = 4  # video frames of one latent frame


def kept_volume(
    kv_block_index: torch.Tensor, kv_block_count: int, grid: TokenGrid, curve: str, kv_block_size: int
) -> torch.Tensor:
    """bool [t, h, w]: the tokens of the listed key blocks.

    kv_block_index: int [max_kv], what lies past kv_block_count is not read.
    """
    kept = torch.zeros(-(-grid.num_tokens // kv_block_size), dtype=torch.bool)
    kept[kv_block_index[:kv_block_count].long()] = True
    return _on_grid(kept.repeat_interleave(kv_block_size)[: grid.num_tokens], grid, curve)


def query_volume(query_block: int, grid: TokenGrid, curve: str) -> torch.Tensor:
    """bool [t, h, w]: the tokens of one block of queries."""
    return _on_grid(torch.arange(grid.num_tokens) // Q_BLOCK_SIZE == query_block, grid, curve)


def query_block_at(x: float, y: float, frame: float, grid: TokenGrid, curve: str) -> int:
    """The query block with the token at this place. x, y, frame: fractions of width, height and length, 0 .. 1."""
    for name, value in (("x", x), ("y", y), ("frame", frame)):
        if not 0 <= value <= 1:
            raise ValueError(f"overlay: {name} must be from 0 to 1, a fraction of the clip, got {value}")
    t, row, column = (min(int(share * side), side - 1) for share, side in ((frame, grid.t), (y, grid.h), (x, grid.w)))
    rank = curves.curve_rank(_order(grid, curve))
    return int(rank[(t * grid.h + row) * grid.w + column]) // Q_BLOCK_SIZE


def latent_frames(num_frames: int, grid: TokenGrid) -> torch.Tensor:
    """int64 [num_frames]: the latent frame that every video frame came from. Raises ValueError for another length."""
    expected = 1 + TEMPORAL_STRIDE * (grid.t - 1)
    if num_frames != expected:
        raise ValueError(
            f"overlay: frames must be the {expected} that {grid.t} latent frames decode to, got {num_frames}; connect "
            "the decoded clip of this run"
        )
    return (torch.arange(num_frames) + TEMPORAL_STRIDE - 1) // TEMPORAL_STRIDE


def draw(frames: torch.Tensor, kept: torch.Tensor, query: torch.Tensor, grid: TokenGrid) -> torch.Tensor:
    """frames [F, H, W, 3] in 0..1 with kept tokens tinted, dropped ones dark, the query block outlined.

    kept, query: bool [t, h, w].
    """
    _, height, width, _ = frames.shape
    drawn = torch.empty(frames.shape)
    rows, columns = (torch.arange(size) * side // size for size, side in ((height, grid.h), (width, grid.w)))
    thickness = max(2, height // 120)
    for picture, frame, latent_frame in zip(drawn, frames, latent_frames(len(frames), grid).tolist(), strict=True):
        mask, inside = (volume[latent_frame][rows][:, columns] for volume in (kept, query))
        tinted = frame.float().cpu() * (1 - TINT) + torch.tensor(KEPT_COLOR) * TINT
        picture.copy_(torch.where(mask[..., None], tinted, frame.float().cpu() * DIM))
        picture[_edge(inside, thickness)] = torch.tensor(QUERY_COLOR)
    return drawn


def draw_kept_blocks(
    frames: torch.Tensor, blocks: KeptBlocks, head: int, query_block: int, title: str = ""
) -> torch.Tensor:
    """What one head and query block of a recorded layer keeps, over the frames, with a line of text."""
    index, count = blocks.row(head, query_block)
    grid, curve = blocks.grid, blocks.curve
    kept = kept_volume(index, count, grid, curve, blocks.kv_block_size)
    clip = draw(frames[..., :3], kept, query_volume(query_block, grid, curve), grid)
    text = f"{title}query block {query_block}\nkeeps {count} of {blocks.num_kv_blocks}"
    return Label(text, *clip.shape[1:3]).on(clip)


def _edge(mask: torch.Tensor, thickness: int) -> torch.Tensor:
    """bool [H, W]: the tokens' outline, inside of the mask and closed at the border of the frame."""
    outside = F.pad((~mask).float(), [thickness] * 4, value=1.0)
    return mask & F.max_pool2d(outside[None], 2 * thickness + 1, stride=1)[0].bool()


def _on_grid(positions: torch.Tensor, grid: TokenGrid, curve: str) -> torch.Tensor:
    """bool [N] along the curve -> bool [t, h, w]."""
    volume = torch.empty_like(positions)
    volume[_order(grid, curve).long()] = positions
    return volume.view(grid.t, grid.h, grid.w)


def _order(grid: TokenGrid, curve: str) -> torch.Tensor:
    source = ops if ops.native_status().cpu else curves
    return source.curve_order(grid.t, grid.h, grid.w, curve)

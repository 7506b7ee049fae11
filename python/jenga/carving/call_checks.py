"""What a call of carved_attention must be given, told before any work starts: ValueError, TypeError or RuntimeError."""

from numbers import Integral

import torch

from .config import Q_BLOCK_SIZE, TokenGrid
from .constraints import dtype_name
from .operands import BlockLists, Residual


def check_tensors(q, k, v, kv_mask):
    for name, x in (("q", q), ("k", k), ("v", v)):
        if not isinstance(x, torch.Tensor):
            raise TypeError(f"carved_attention: {name} must be a tensor, got {type(x).__name__}")
        _require(x.dim() == 4, name, "have 4 dimensions [B, H, S, D]", f"shape {tuple(x.shape)}")
        _require(x.dtype.is_floating_point, name, "be floating point", dtype_name(x.dtype))
        _require(x.dtype == q.dtype, name, f"have the dtype of q ({dtype_name(q.dtype)})", dtype_name(x.dtype))
        _require(x.device == q.device, name, f"be on the device of q ({q.device})", x.device)
        _require(
            x.shape == q.shape,
            name,
            f"have the shape of q {tuple(q.shape)} (self-attention; repeat grouped heads first)",
            f"shape {tuple(x.shape)}",
        )
        if x.requires_grad and torch.is_grad_enabled():
            raise RuntimeError(
                f"carved_attention: {name} must not need grad, got requires_grad=True; it has no backward pass, "
                "call it under torch.no_grad()"
            )
    for size, name in zip(q.shape, ("batch", "heads", "sequence", "head dim"), strict=True):
        _require(size > 0, "q", f"have a {name} of at least 1", f"shape {tuple(q.shape)}")
    if kv_mask is not None:
        if not isinstance(kv_mask, torch.Tensor):
            raise TypeError(f"carved_attention: kv_mask must be a tensor, got {type(kv_mask).__name__}")
        wanted = (q.shape[0], q.shape[2])
        _require(kv_mask.dtype == torch.bool, "kv_mask", "be bool (True is attended)", dtype_name(kv_mask.dtype))
        _require(kv_mask.shape == wanted, "kv_mask", f"be [B, S] = {wanted}", f"shape {tuple(kv_mask.shape)}")
        _require(kv_mask.device == q.device, "kv_mask", f"be on the device of q ({q.device})", kv_mask.device)


def check_layout(grid, tokens: int, video_start, text_range):
    if not isinstance(grid, TokenGrid):
        raise TypeError(f"carved_attention: grid must be a TokenGrid, got {type(grid).__name__}")
    _require(isinstance(video_start, Integral) and video_start >= 0, "video_start", "be an integer >= 0", video_start)
    end = video_start + grid.num_tokens
    _require(
        end <= tokens,
        "grid",
        f"fit the sequence: video_start + t*h*w must be at most {tokens}",
        f"{video_start} + {grid.t}*{grid.h}*{grid.w} = {end}",
    )
    if text_range is not None:
        pair = isinstance(text_range, tuple | list) and len(text_range) == 2
        _require(
            pair and all(isinstance(x, Integral) for x in text_range), "text_range", "be (start, stop)", text_range
        )
        start, stop = text_range
        _require(0 <= start <= stop <= tokens, "text_range", f"lie in 0 .. {tokens}", text_range)
        _require(
            stop <= video_start or start >= end or start == stop,
            "text_range",
            f"hold context columns only, the video is {video_start} .. {end}",
            text_range,
        )


def check_anchor_state(q, grid: TokenGrid, lists: BlockLists | None, residual: Residual | None, tail_bias):
    batch, heads, tokens, _ = q.shape
    if lists is not None:
        wanted, found = (batch, heads, -(-grid.num_tokens // Q_BLOCK_SIZE)), tuple(lists.count.shape)
        _require(found == wanted, "lists", f"be for [B, H, query blocks] = {wanted}", found)
    _require(tail_bias is None or lists is not None, "tail_bias", "come with lists", "it alone")
    if residual is not None:
        wanted, found = (batch, tokens, heads), tuple(residual.codes.shape[:3])
        _require(found == wanted, "residual", f"be for [B, S, H] = {wanted}", found)


def checked_scale(scale: float) -> float:
    _require(0 < scale < float("inf"), "softmax_scale", "be positive and finite", scale)
    return float(scale)


def _require(condition: bool, argument: str, rule: str, value):
    if not condition:
        raise ValueError(f"carved_attention: {argument} must {rule}, got {value}")

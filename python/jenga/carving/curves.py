"""Orders of the video tokens: space-filling curves and which of their blocks touch.

A token's raster index is (t * h + y) * w + x. curve_order[r] is the raster index of the token at curve position r;
curve_rank is its inverse. Neighbours on the curve are neighbours in the video, so a run of the curve (a block) is a
compact piece of it.

The curve is the generalised Hilbert curve for boxes of any size (method: paper; recursion known as "Gilbert"): a box is
a corner p and three signed axis vectors a, b, c; the path enters at p, leaves at the far end of a, and is cut into
two, three or five smaller boxes. The walk here is plain Python, about a second for 100,000 tokens; the native
library has the same walk in milliseconds.
"""

import itertools

import torch

from .config import TokenGrid


def curve_order(t: int, h: int, w: int, curve: str) -> torch.Tensor:
    """int32 [t*h*w] on the CPU: raster index at every curve position. curve: gilbert3d | gilbert2d_sliced | raster.

    Raises ValueError for an unknown curve or an empty grid. Source: paper; the walk is ours.
    """
    TokenGrid(t, h, w)
    if curve == "raster":
        return torch.arange(t * h * w, dtype=torch.int32)
    if curve == "gilbert3d":
        points = _gilbert(w, h, t)
    elif curve == "gilbert2d_sliced":
        points = _sliced(t, h, w)
    else:
        raise ValueError(f"curve_order: curve must be one of gilbert3d, gilbert2d_sliced, raster, got {curve!r}")
    return torch.tensor([(z * h + y) * w + x for x, y, z in points], dtype=torch.int32)


def curve_rank(order: torch.Tensor) -> torch.Tensor:
    """int32 [N]: curve position of every raster index, the inverse of `order`."""
    rank = torch.empty_like(order)
    rank[order.long()] = torch.arange(order.numel(), dtype=order.dtype, device=order.device)
    return rank


def block_adjacency(t: int, h: int, w: int, curve: str, block_size: int) -> torch.Tensor:
    """bool [nb, nb] on the CPU, nb = ceil(t*h*w / block_size): blocks that touch. Symmetric, diagonal true.

    Two blocks touch where a token of one lies in the 3x3x3 neighbourhood of a token of the other; nothing wraps.
    Source: paper.
    """
    order = curve_order(t, h, w, curve)
    label = (curve_rank(order).long() // block_size).view(t, h, w)
    num_blocks = -(-order.numel() // block_size)
    touch = torch.eye(num_blocks, dtype=torch.bool)
    # One of every pair of opposite offsets is enough: the transpose gives the other.
    for offset in itertools.product((-1, 0, 1), repeat=3):
        if offset > (0, 0, 0):
            here, there = zip(
                *(_overlap(step, size) for step, size in zip(offset, (t, h, w), strict=True)), strict=True
            )
            touch[label[here], label[there]] = True
    return touch | touch.T


def _overlap(step: int, size: int) -> tuple[slice, slice]:
    """Slices of one axis such that the second is the first moved by `step`, cut at the border."""
    return slice(max(0, -step), size - max(0, step)), slice(max(0, step), size + min(0, step))


def _sliced(t: int, h: int, w: int) -> list[tuple[int, int, int]]:
    """One 2-D curve per frame, mirrored so that it starts near the place where the frame before it ended."""
    frame = _gilbert(w, h, 1)
    points = []
    for z in range(t):
        end_x, end_y = points[-1][:2] if points else (0, 0)
        flip_x, flip_y = 2 * end_x >= w and z > 0, 2 * end_y >= h and z > 0
        points += [(w - 1 - x if flip_x else x, h - 1 - y if flip_y else y, z) for x, y, _ in frame]
    return points


def _gilbert(w: int, h: int, d: int) -> list[tuple[int, int, int]]:
    """Every (x, y, z) of a w*h*d box in curve order, starting at the origin along the longest side."""
    x, y, z = (w, 0, 0), (0, h, 0), (0, 0, d)
    if w >= h and w >= d:
        sides = (x, y, z)
    elif h >= w and h >= d:
        sides = (y, x, z)
    else:
        sides = (z, x, y)
    points = []
    _walk(points, (0, 0, 0), *sides)
    return points


def _walk(points: list, p: tuple, a: tuple, b: tuple, c: tuple) -> None:
    """Append the box with corner p and sides a, b, c. First matching case wins."""
    w, h, d = _length(a), _length(b), _length(c)
    if w * h * d == 0:
        return
    if (w > 1) + (h > 1) + (d > 1) <= 1:
        step = _sign(a if w > 1 else b if h > 1 else c)
        points += [tuple(p[i] + k * step[i] for i in range(3)) for k in range(w * h * d)]
        return

    da, db, dc = _sign(a), _sign(b), _sign(c)
    a2, b2, c2 = _half(a), _half(b), _half(c)
    rest_a, rest_b, rest_c = _sub(a, a2), _sub(b, b2), _sub(c, c2)
    end_a = _sub(a, da)  # from the corner to the last token of a
    if 2 * w > 3 * h and 2 * w > 3 * d:
        _walk(points, p, a2, b, c)
        _walk(points, _add(p, a2), rest_a, b, c)
    elif 3 * h > 4 * d:
        _walk(points, p, b2, c, a2)
        _walk(points, _add(p, b2), a, rest_b, c)
        _walk(points, _add(p, end_a, _sub(b2, db)), _neg(b2), c, _neg(rest_a))
    elif 3 * d > 4 * h:
        _walk(points, p, c2, a2, b)
        _walk(points, _add(p, c2), a, b, rest_c)
        _walk(points, _add(p, end_a, _sub(c2, dc)), _neg(c2), _neg(rest_a), b)
    else:
        _walk(points, p, b2, c2, a2)
        _walk(points, _add(p, b2), c, a2, rest_b)
        _walk(points, _add(p, _sub(b2, db), _sub(c, dc)), a, _neg(b2), _neg(rest_c))
        _walk(points, _add(p, end_a, b2, _sub(c, dc)), _neg(c), _neg(rest_a), rest_b)
        _walk(points, _add(p, end_a, _sub(b2, db)), _neg(b2), c2, _neg(rest_a))


def _half(v: tuple) -> tuple:
    """Half of an axis vector, floored (also where it is negative: the paper's numbers need it), made even-sized."""
    half = tuple(e // 2 for e in v)
    if _length(half) % 2 == 1 and _length(v) > 2:
        return _add(half, _sign(v))
    return half


def _length(v: tuple) -> int:
    return abs(v[0] + v[1] + v[2])


def _sign(v: tuple) -> tuple:
    return tuple((e > 0) - (e < 0) for e in v)


def _neg(v: tuple) -> tuple:
    return (-v[0], -v[1], -v[2])


def _sub(u: tuple, v: tuple) -> tuple:
    return (u[0] - v[0], u[1] - v[1], u[2] - v[2])


def _add(*vectors: tuple) -> tuple:
    return tuple(map(sum, zip(*vectors, strict=True)))

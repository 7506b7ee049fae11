"""comfy-kitchen's sol_attn as a rival: whether it runs, a call of it, and the key blocks that it really computes.

For a block of 64 queries it computes the key blocks of its top-k (or above its threshold τ), and besides them always
the block of the queries itself and the one on each side of it in token order; every other block is one pooled column.
Its kernels and its eager form alike: backends/eager/sol_attn.py of comfy-kitchen 0.2.40. So it computes more than
topk_ratio says; how much more depends on how much of that band is among its top-k already.
"""

import math
import random
from collections.abc import Callable

import torch
import torch.nn.functional as F

BLOCK = 64
FLAT = 2**-5  # of the usual scale: the order of blocks stays, and no weight is so small that it is rounded to zero
SAMPLE = 96  # calls of a run whose blocks are counted


def refusal(device: torch.device) -> str:
    """Why it does not run on a device; empty where it does, on the CPU in its eager form."""
    try:
        import comfy_kitchen
    except ImportError as error:
        return f"comfy-kitchen cannot be imported: {error}"
    if not hasattr(comfy_kitchen, "sol_attn"):
        return "comfy-kitchen is older than 0.2.33"
    if device.type == "cuda" and not comfy_kitchen.sol_attn_is_available(device):
        return f"its kernels do not run on {device}"
    return ""


def prepared(q, k, v, **routing) -> tuple[Callable | None, str]:
    """A call of it on q, k, v [B, H, S, D], or why there is none.

    routing: topk_ratio, the kept share, or tau, its own threshold.
    """
    if reason := refusal(q.device):
        return None, reason
    if q.shape[-1] != 128:
        return None, "head dim 128 only"
    if routing.get("topk_ratio", 0) >= 1:
        return None, "shares below 100 % only"
    import comfy_kitchen

    rows = [x.transpose(1, 2).contiguous() for x in (q, k, v)]
    return (lambda: comfy_kitchen.sol_attn(*rows, **routing).transpose(1, 2)), ""


def computed_share(q: torch.Tensor, k: torch.Tensor, **routing) -> float:
    """Share of all (query block, key block) pairs that it computes for q, k [B, H, S, D]: it is asked itself.

    It is called without its pooled columns on values that mark key blocks, one in each channel: the channel of a block
    that it leaves out stays exactly zero.
    """
    import comfy_kitchen

    batch, heads, tokens, head_dim = q.shape
    blocks = math.ceil(tokens / BLOCK)
    queries, keys = (x.transpose(1, 2).contiguous() for x in (q, k))
    block = torch.arange(tokens, device=q.device) // BLOCK
    computed = 0
    for first in range(0, blocks, head_dim):
        marks = block[:, None] == torch.arange(first, first + head_dim, device=q.device)
        values = marks.to(q.dtype)[None, :, None].expand(batch, tokens, heads, head_dim).contiguous()
        out = comfy_kitchen.sol_attn(queries, keys, values, scale=FLAT * head_dim**-0.5, tail=False, **routing)
        computed += int((out[:, ::BLOCK] > 0).sum())  # the queries of a block share its list
    return computed / (batch * heads * blocks**2)


def cost(share: float) -> float:
    """Work relative to dense: computed blocks, and a pooled column for every other one."""
    return share + (1 - share) / BLOCK


class Work:
    """The calls of a run, for their computed share after it.

    Means over blocks are kept, which alone decide what it computes: its queries and keys would fill the memory, and
    counting during the run would be in the run's time.
    """

    def __init__(self):
        self._calls: list[tuple[int, torch.Tensor, torch.Tensor]] = []

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **routing) -> torch.Tensor:
        """A call of it on q, k, v [B, H, S, D], noted. It must run here: see `refusal`."""
        self.note(q, k)
        call, _ = prepared(q, k, v, **routing)
        return call()

    def note(self, q: torch.Tensor, k: torch.Tensor) -> None:
        """q, k [B, H, S, D] of a call."""
        means = (F.avg_pool2d(x, (BLOCK, 1), ceil_mode=True) for x in (q, k))
        self._calls.append((q.shape[2], *means))

    def share(self, **routing) -> float:
        """Mean over the calls: over SAMPLE of them, drawn by lot, where there are more."""
        chosen = random.Random(0).sample(self._calls, min(SAMPLE, len(self._calls)))
        shares = []
        for tokens, *means in chosen:
            q, k = (x.repeat_interleave(BLOCK, dim=2)[:, :, :tokens] for x in means)
            shares.append(computed_share(q, k, **routing))
        return sum(shares) / len(shares)

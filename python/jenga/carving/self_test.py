"""Whether the native kernels of this machine compute what they should: two small cases, before they are first used.

A build for another machine, a driver that compiles PTX wrongly, a kernel that no test machine could run: each would
make wrong pictures, and nothing would tell. Once a process for each device, dtype and head dim.
"""

import functools

import torch

# By name, so that what replaces an operator later is not what was tested.
from . import reference
from .operands import BlockLists, CarvedLayout
from .ops import block_sparse_attention, prepare_blocks, select_blocks, tail_bias
from .quantise import PRECISIONS

CONTEXT, VIDEO, HEADS = 5, 400, 2  # ragged for every block size
KEPT_BLOCKS = 2
# Relative L2 error of out, absolute error of lse. Rounding to 16 bits makes 0.002 to 0.004, a wrong kernel near 1.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.02}


def failure(device: torch.device, dtype: torch.dtype, head_dim: int, precision: str = "16-bit") -> str:
    """Why the native kernels for this input must not be used; empty where they are right.

    Nothing is tested while a graph is captured or traced: the result could not be read. Raises OutOfMemoryError.
    """
    if torch.compiler.is_compiling() or (device.type == "cuda" and torch.cuda.is_current_stream_capturing()):
        return ""
    return _failure(device, dtype, head_dim, precision)


@functools.cache
def _failure(device: torch.device, dtype: torch.dtype, head_dim: int, precision: str) -> str:
    try:
        with torch.inference_mode():
            errors = _errors(device, dtype, head_dim, precision)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a kernel or a driver says
        return f"self-test failed with {type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"
    wrong = [f"{name} off by {error:.2g}" for name, error in errors.items() if not error <= TOLERANCE[dtype]]
    return f"self-test failed: {', '.join(wrong)}" if wrong else ""


def _errors(device: torch.device, dtype: torch.dtype, head_dim: int, precision: str) -> dict[str, float]:
    """Errors against fp32: all blocks kept against dense attention, two of them against the reference, with what the
    dropped cells count as. In 8 bits both against the reference, whose rounding is the same.
    """
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(3, 1, HEADS, CONTEXT + VIDEO, head_dim, generator=generator).to(device, dtype)
    order = torch.cat([torch.arange(CONTEXT), CONTEXT + torch.randperm(VIDEO, generator=generator)])
    layout, scale = CarvedLayout(order.to(device, torch.int32), CONTEXT), head_dim**-0.5
    exact = [x.float() for x in drawn]
    blocks = prepare_blocks(*drawn, layout, None, PRECISIONS[precision])

    count = -(-VIDEO // layout.kv_block_size)
    every = torch.arange(count, dtype=torch.int32, device=device).expand(1, HEADS, -(-VIDEO // layout.q_block_size), -1)
    all_lists = BlockLists(every.contiguous(), torch.full_like(every[..., 0], count))
    right_blocks = reference.prepare_blocks(*exact, layout, None, PRECISIONS[precision])
    if precision == "16-bit":
        logits = scale * (exact[0] @ exact[1].transpose(2, 3))
        dense = (logits.softmax(-1) @ exact[2], logits.logsumexp(-1))
    else:
        dense = reference.block_sparse_attention(exact[0], right_blocks, all_lists, scale)

    lists = select_blocks(blocks.q_means, blocks.k_means, None, layout.cells(VIDEO), KEPT_BLOCKS, 0.0, scale)
    means, sizes = blocks[2:4], (VIDEO, layout.k_cell_size, layout.tail_block_size, scale)
    bias = tail_bias(*means, *sizes)
    blocks, right_blocks = (x._replace(tail_bias=bias) for x in (blocks, right_blocks))
    carved = reference.block_sparse_attention(exact[0], right_blocks, lists, scale)

    right_bias = reference.tail_bias(*(x.cpu() for x in means), *sizes).to(device)  # few numbers, many kernels to load
    found = {"tail bias": (bias - right_bias).abs().amax()}
    for name, kept, right in (("dense", all_lists, dense), ("carved", lists, carved)):
        out, lse = block_sparse_attention(drawn[0], blocks, kept, scale)
        found[f"{name} out"] = (out.float() - right[0]).norm() / right[0].norm()
        found[f"{name} lse"] = (lse - right[1]).abs().amax()
    return dict(zip(found, torch.stack(list(found.values())).tolist(), strict=True))

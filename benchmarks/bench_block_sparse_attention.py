"""The attention operator alone, with random and with selected lists, with and without compensation, against dense.

On a GPU also torch's FlexAttention with the same lists (python/jenga/carving/flex.py), drop only. JENGA_FORCE_SM=80
times the sm_80 kernels on a newer GPU. "rate / dense" is relative to the fastest dense backend of the run.
"""

import math

import torch

from benchmarks import common
from benchmarks.common import cases
from jenga import JengaConfig
from jenga.carving import flex, ops
from jenga.carving.operands import CarvedLayout, PreparedBlocks

TAIL = 64
ROWS = 1024  # at most so many video rows, the last along the curve, are compared with fp64


def prepared(case: cases.Case, q, k, v, kv_block_size: int) -> PreparedBlocks:
    """Carved keys and values of a case, its means and tails."""
    token_index = cases.token_index(case).to(q.device)
    sizes = (common.Q_BLOCK, kv_block_size, min(TAIL, kv_block_size), *JengaConfig().score_cells)
    layout = CarvedLayout(token_index, case.num_context, *sizes)
    return ops.prepare_blocks(q, k, v, layout, context_bias(case, q.device))


def context_bias(case: cases.Case, device) -> torch.Tensor | None:
    """[1, P]: 0 on the context, -inf on its padding."""
    if not case.num_context:
        return None
    bias = torch.zeros(1, case.padded_context, device=device)
    bias[:, case.num_context :] = -math.inf
    return bias


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--kv-block-size", type=int, default=64, choices=[64, 128])
    arguments = parser.parse_args()
    size = arguments.kv_block_size
    tail = min(TAIL, size)
    for case, dtype in common.selected(arguments):
        q, k, v = common.structured_qkv(case, dtype, arguments.device)
        blocks = prepared(case, q, k, v, size)
        rows = blocks.layout.token_index[-min(ROWS, case.num_video) :].long()
        scale = case.head_dim**-0.5

        def call(lists, tail_size: int, operator=ops.block_sparse_attention):
            layout = blocks.layout._replace(tail_block_size=tail_size)
            return operator(q, blocks._replace(layout=layout), lists, scale)

        lists = {}
        for share in arguments.kept or common.KEPT_SHARES:
            lists["random", share] = common.random_lists(case, share, size, arguments.device)
            number = common.kept_blocks(share, case.blocks(size))
            means, cells = (blocks.q_means, blocks.k_means), blocks.layout.cells(case.num_video)
            lists["selected", share] = ops.select_blocks(*means, None, cells, number, 0.0, scale)

        dense = common.dense_calls(q, k, v)
        statements = dict(dense)
        for key, pair in lists.items():
            statements[(*key, 0)] = lambda pair=pair: call(pair, 0)
            statements[(*key, tail)] = lambda pair=pair: call(pair, tail)
            if q.is_cuda and key[1] < 1:
                statements[(*key, "flex")] = lambda pair=pair: call(pair, 0, flex.block_sparse_attention)
        seconds = common.median_seconds(statements, arguments.seconds)
        best = min(dense, key=seconds.get)

        print(f"\n### {case.name}, {dtype}, key blocks of {size}")
        print(f"\ndense: {common.dense_rates(case, dense, seconds)}\n")
        errors = ("error", f"error, tail {tail}") if arguments.refcheck else ()
        common.print_head(
            *("lists", "kept share", "drop only ms", "TFLOP/s", "rate / dense", f"tail {tail} ms", "tail costs"),
            *("FlexAttention ms", *errors),
        )
        for key, pair in lists.items():
            plain, tailed = seconds[(*key, 0)], seconds[(*key, tail)]
            video_share = min(1.0, float(pair[1].double().mean()) * size / case.num_video)
            share = 1 - (1 - video_share) * (case.num_video / case.tokens) ** 2
            row = [key[0], f"{share:.1%}", f"{plain * 1e3:.2f}", f"{share * common.dense_rate(case, plain):.3f}"]
            row += [f"{share * seconds[best] / plain:.2f}", f"{tailed * 1e3:.2f}", f"{tailed / plain - 1:+.1%}"]
            row.append(f"{seconds[(*key, 'flex')] * 1e3:.2f}" if (*key, "flex") in seconds else "–")
            if arguments.refcheck:
                for tail_size in (0, tail):
                    exact = common.carved_fp64(case, q, blocks, pair, rows, size, tail_size)
                    row.append(f"{common.relative_error(call(pair, tail_size)[0][:, :, rows], exact):.1e}")
            common.print_row(*row)
        if arguments.refcheck:
            error = common.relative_error(dense[best]()[:, :, rows], common.dense_fp64(q, k, v, rows))
            print(f"\nerrors are relative to fp64 with the same lists; that of dense {best} is {error:.1e}")


if __name__ == "__main__":
    main()

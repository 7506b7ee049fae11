"""The attention operator alone, with random and with selected lists, with and without compensation, against dense."""

import math

import torch

from benchmarks import common
from jenga import ops

TAIL = 64


def prepared(case: common.Case, q, k, v, kv_block_size: int):
    """Carved keys and values, pools and tails of a case, and its token index."""
    order = ops.curve_order(case.grid.t, case.grid.h, case.grid.w, "gilbert3d").to(q.device)
    context = torch.arange(case.num_context, dtype=torch.int32, device=q.device)
    token_index = torch.cat([context, order + case.num_context])
    blocks = ops.prepare_blocks(
        q, k, v, token_index, case.num_context, common.Q_BLOCK, kv_block_size, min(TAIL, kv_block_size)
    )
    return token_index, blocks


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--kv-block-size", type=int, default=64, choices=[64, 128])
    arguments = parser.parse_args()
    cases, shares, dtype = common.selected(arguments)
    size = arguments.kv_block_size
    for case in cases:
        q, k, v = common.structured_qkv(case, dtype, arguments.device)
        dense = common.dense_seconds(q, k, v, arguments.seconds)
        best = min(dense, key=dense.get)
        token_index, (k_carved, v_carved, q_pool, k_pool, k_tail, v_tail) = prepared(case, q, k, v, size)
        scale = case.head_dim**-0.5
        bias = None
        if case.num_context:
            padded = math.ceil(case.num_context / 128) * 128
            bias = torch.zeros(1, padded, device=q.device)
            bias[:, case.num_context :] = -math.inf
        rate = case.dense_flops() / dense[best] / 1e12
        print(f"\n### {case.name}, {arguments.dtype}, key blocks of {size}; dense {best} {dense[best] * 1e3:.2f} ms, ")
        print(
            f"{rate:.3f} TFLOP/s\n\n| lists | kept share | drop only ms | rate / dense | tail {TAIL} ms | tail costs |"
        )
        print("|---|---|---|---|---|---|")
        for kept in shares:
            blocks = max(1, round(kept * k_pool.shape[2]))
            lists = {
                "random": common.random_lists(case, kept, size, arguments.device),
                "selected": ops.select_blocks(q_pool, k_pool, None, blocks, 0.0, scale),
            }
            for name, (index, count) in lists.items():

                def call(tail: bool, index=index, count=count):
                    return ops.block_sparse_attention(
                        q,
                        k_carved,
                        v_carved,
                        index,
                        count,
                        token_index,
                        case.num_context,
                        common.Q_BLOCK,
                        size,
                        scale,
                        context_bias=bias,
                        k_tail=k_tail if tail else None,
                        v_tail=v_tail if tail else None,
                        tail_block_size=min(TAIL, size) if tail else 0,
                    )

                plain = common.median_seconds(lambda call=call: call(False), arguments.seconds)
                tailed = common.median_seconds(lambda call=call: call(True), arguments.seconds)
                video_share = min(1.0, float(count.double().mean()) * size / case.num_video)
                share = 1 - (1 - video_share) * (case.num_video / case.tokens) ** 2
                row = [name, f"{share:.1%}", f"{plain * 1e3:.2f}", f"{share * dense[best] / plain:.2f}"]
                print("| " + " | ".join([*row, f"{tailed * 1e3:.2f}", f"{tailed / plain - 1:+.1%}"]) + " |")
                if arguments.refcheck and kept == 1.0:
                    exact = common.dense_fp64(q, k, v)
                    error = common.relative_error(call(False)[0][:, :, -exact.shape[2] :], exact)
                    sdpa = torch.nn.functional.scaled_dot_product_attention(q, k, v)[:, :, -exact.shape[2] :]
                    print(f"\nerror at 100 %: {error:.2e}, dense SDPA's {common.relative_error(sdpa, exact):.2e}\n")


if __name__ == "__main__":
    main()

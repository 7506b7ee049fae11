"""Pre-pass and selection alone: milliseconds, and their share of a dense call in the same run."""

from benchmarks import common
from benchmarks.bench_block_sparse_attention import prepared
from jenga import ops


def main() -> None:
    arguments = common.parser(__doc__).parse_args()
    cases, _, dtype = common.selected(arguments)
    print("| case | pre-pass ms | select top-k ms | select top-p ms | pre-pass + top-k, share of dense |")
    print("|---|---|---|---|---|")
    for case in cases:
        q, k, v = common.structured_qkv(case, dtype, arguments.device)
        dense = min(common.dense_seconds(q, k, v, arguments.seconds).values())
        token_index, (_, _, q_pool, k_pool, _, _) = prepared(case, q, k, v, 64)
        scale = case.head_dim**-0.5
        blocks = max(1, k_pool.shape[2] // 5)
        prepass = common.median_seconds(
            lambda: ops.prepare_blocks(q, k, v, token_index, case.num_context, common.Q_BLOCK, 64, 64),
            arguments.seconds,
        )
        top_k = common.median_seconds(
            lambda: ops.select_blocks(q_pool, k_pool, None, blocks, 0.0, scale),
            arguments.seconds,
        )
        top_p = common.median_seconds(
            lambda: ops.select_blocks(q_pool, k_pool, None, blocks, 0.5, scale),
            arguments.seconds,
        )
        row = [case.name, f"{prepass * 1e3:.3f}", f"{top_k * 1e3:.3f}", f"{top_p * 1e3:.3f}"]
        print("| " + " | ".join([*row, f"{(prepass + top_k) / dense:.2%}"]) + " |")


if __name__ == "__main__":
    main()

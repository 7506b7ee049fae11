"""Pre-pass and selection alone: milliseconds, and their share of a dense and of a carved call in the same run."""

from benchmarks import common
from benchmarks.bench_block_sparse_attention import prepared
from jenga import JengaConfig, TokenGrid
from jenga.carving import ops
from jenga.carving.attention import CarvedAttention


def main() -> None:
    arguments = common.parser(__doc__).parse_args()
    shares = [share for share in arguments.kept or common.KEPT_SHARES if share < 1]
    common.print_head(
        "case",
        "dtype",
        "kept",
        "pre-pass ms",
        "top-k ms",
        "top-p ms",
        "pre-pass + top-k, of dense",
        "of the carved call",
    )
    for case, dtype in common.selected(arguments):
        q, k, v = common.structured_qkv(case, dtype, arguments.device)
        token_index, blocks = prepared(case, q, k, v, 64)
        pools, scale = (blocks.q_pool, blocks.k_pool), case.head_dim**-0.5
        dense = common.dense_calls(q, k, v)
        statements = dense | {
            "pre-pass": lambda: ops.prepare_blocks(q, k, v, token_index, case.num_context, common.Q_BLOCK, 64, 64)
        }
        for share in shares:
            number = common.kept_blocks(share, blocks.k_pool.shape[2])
            carved = CarvedAttention(JengaConfig(density=share))
            statements["top-k", share] = lambda number=number: ops.select_blocks(*pools, None, number, 0.0, scale)
            statements["top-p", share] = lambda number=number: ops.select_blocks(*pools, None, number, 0.5, scale)
            statements["carved", share] = lambda carved=carved: carved(q, k, v, TokenGrid(*case.grid), case.before)
        seconds = common.median_seconds(statements, arguments.seconds)
        for share in shares:
            before = seconds["pre-pass"] + seconds["top-k", share]
            row = [f"{x * 1e3:.3f}" for x in (seconds["pre-pass"], seconds["top-k", share], seconds["top-p", share])]
            row += [f"{before / min(seconds[name] for name in dense):.2%}", f"{before / seconds['carved', share]:.2%}"]
            common.print_row(case.name, dtype, f"{share:.0%}", *row)


if __name__ == "__main__":
    main()

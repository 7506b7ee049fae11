"""Carved attention against comfy-kitchen's sol_attn at matched error, on the demo model's own activations, enlarged.

`python -m benchmarks.bench_matched_error`: the trained demo model is sampled on grids of real size, far beyond those it
was trained on; q, k, v of all its layers in the middle of the run are the heads of one call. For every setting of
sol_attn the last columns say which call of ours is the fastest whose relative L2 error against dense fp64 is not
larger: of the defaults, which differ in their kept share alone, and of all FORMS, each with the smallest share that
does, found by halving between SHARES. The defaults' precision is auto, that of forms which name none 16-bit. sol_attn
computes a band beside the diagonal whatever its setting; adjacency is our form of that. Times are taken in turns in one
process; with --settled each is taken after so long of nothing else. Forms in 8 bits are left out where the card has no
kernel for them.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import combinations

import torch

from benchmarks import common, sol_attn
from benchmarks.bench_ablation import activations
from benchmarks.demo_model import DemoModel
from jenga import CarvedAttention, JengaConfig, TokenGrid
from jenga.carving.dispatch import Backends, PrecisionUnavailable

GRIDS = ((21, 30, 52), (21, 45, 80), (32, 45, 80))
SHARES = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7)
DEFAULTS = "defaults"
OF_16_BIT = {
    "16-bit": {},
    "adjacency": {"adjacency": True},
    "tail 32": {"tail_block_size": 32},
    "key block 128": {"kv_block_size": 128},
    "key block 128, adjacency": {"kv_block_size": 128, "adjacency": True},
}
FORMS = {DEFAULTS: {}} | {name: {"precision": "16-bit"} | options for name, options in OF_16_BIT.items()}
FORMS["int8"] = {"precision": "int8"}
FP8_OPTIONS = {
    "scores 8 × 4": ("score_cells", (8, 4)),
    "tail 32": ("tail_block_size", 32),
    "adjacency": ("adjacency", True),
}
FORMS |= {
    ", ".join(("fp8", *names)): {"precision": "fp8"} | dict(FP8_OPTIONS[name] for name in names)
    for size in range(len(FP8_OPTIONS) + 1)
    for names in combinations(FP8_OPTIONS, size)
}
RIVALS = {"top-k 5 %": {"topk_ratio": 0.05}, "top-k 10 %": {"topk_ratio": 0.1}, "top-k 20 %": {"topk_ratio": 0.2}}
RIVALS["τ = 1.0"] = {"tau": 1.0}
STEPS = 12
HALVINGS = 4  # of the way between two SHARES, for the smallest share that is as good as a rival
ROWS = 1024  # query rows, evenly spread, whose error is measured


def heads(model: DemoModel) -> tuple[torch.Tensor, ...]:
    """q, k, v [1, layers * heads, S, D] (memory [1, S, H, D]) of the middle of a dense run, bf16."""
    layers = activations(model, 0, STEPS, levels=(0.5,))
    q, k, v, _ = (torch.cat(x, 1).bfloat16() for x in zip(*layers, strict=True))
    return tuple(x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v))


def add_grids(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--grid", type=int, nargs=3, action="append", metavar=("T", "H", "W"), help="may repeat")


def calls_on_grids(arguments: argparse.Namespace, grids) -> Iterator[tuple[TokenGrid, torch.Tensor, ...]]:
    """(grid, q, k, v) of `heads` for every grid that was asked for, else for those given: (T, H, W) each."""
    model = DemoModel("full", arguments.device)
    for sides in arguments.grid or grids:
        model.grid = TokenGrid(*sides)
        yield model.grid, *heads(model)


def name_of(grid: TokenGrid) -> str:
    return f"{grid.t} × {grid.h} × {grid.w}"


def runs(options: dict, q: torch.Tensor) -> bool:
    """Whether the card has a kernel of that precision."""
    try:
        Backends().choose("auto", q, options.get("precision", "auto"))
    except PrecisionUnavailable:
        return False
    return True


class Comparison:
    """Every call on one q, k, v: its error, what it computes, and for those that matter its time.

    median_seconds: of statements by name, as common.timing gives it.
    """

    def __init__(self, grid: TokenGrid, q, k, v, median_seconds: Callable[[dict], dict]):
        self._grid, self._qkv, self._title = grid, (q, k, v), f"{q.shape[1]} × {grid.num_tokens:,}"
        self._dense = common.dense_calls(q, k, v)
        self._rivals = {}
        for name, routing in RIVALS.items():
            self._rivals[name], reason = sol_attn.prepared(q, k, v, **routing)
            if reason:
                raise SystemExit(f"bench_matched_error: sol_attn must be available, got: {reason}")
        self._computed = {name: sol_attn.computed_share(q, k, **routing) for name, routing in RIVALS.items()}
        self._rows = torch.linspace(0, grid.num_tokens - 1, ROWS, device=q.device).round().long()
        self._exact = common.dense_fp64(q, k, v, self._rows)
        fixed = self._dense | self._rivals
        self._errors = {name: self._error(call()) for name, call in fixed.items()}
        self._forms = [form for form, options in FORMS.items() if runs(options, q)]
        for form in self._forms:
            for share in SHARES:
                self._measure(form, share)
        self._matches = {name: self._smallest(self._errors[name]) for name in RIVALS}
        timed = {(DEFAULTS, share) for share in SHARES}.union(*self._matches.values())
        self._times = median_seconds(fixed | {key: self._call(*key) for key in timed})

    def _error(self, out: torch.Tensor) -> float:
        return common.relative_error(out[:, :, self._rows], self._exact)

    def _call(self, form: str, share: float) -> Callable:
        carved = CarvedAttention(JengaConfig(density=share, **FORMS[form]))
        return lambda: carved(*self._qkv, self._grid)

    def _measure(self, form: str, share: float) -> float:
        """The error of one of our calls, which several rivals may ask for."""
        if (form, share) not in self._errors:
            result = self._call(form, share)()
            self._computed[form, share] = float(result.kept_share)
            self._errors[form, share] = self._error(result.out)
        return self._errors[form, share]

    def _smallest(self, error: float) -> list[tuple[str, float]]:
        """Of every form the smallest share, which is its fastest, whose error is not larger."""
        found = []
        for form in self._forms:
            fitting = [share for share in SHARES if self._errors[form, share] <= error]
            if not fitting:
                continue
            best = fitting[0]
            short = max((share for share in SHARES if share < best), default=0.0)
            for _ in range(HALVINGS):
                middle = (short + best) / 2
                short, best = (short, middle) if self._measure(form, middle) <= error else (middle, best)
            found.append((form, best))
        return found

    def print(self) -> None:
        best = min(self._dense, key=self._times.get)
        print(f"\n### {self._title}, dense {best} {self._ms(best)} ms, {self._errors[best]:.1e}\n")
        common.print_head("ours, kept", *(f"{share:.1%}" for share in SHARES))
        common.print_row("ms", *(self._ms((DEFAULTS, share)) for share in SHARES))
        for form in self._forms:
            common.print_row(f"error, {form}", *(f"{self._errors[form, share]:.4f}" for share in SHARES))
            common.print_row("computes", *(f"{self._computed[form, share]:.1%}" for share in SHARES))
        print()
        ours = ("computes", "ms", "× sol_attn")
        common.print_head("sol_attn", "computes", "ms", "error", "defaults, kept", *ours, "fastest of all", *ours)
        for name, matches in self._matches.items():
            row = [name, f"{self._computed[name]:.1%}", self._ms(name), f"{self._errors[name]:.4f}"]
            defaults = [match for match in matches if match[0] == DEFAULTS]
            common.print_row(*row, *self._cells(name, defaults), *self._cells(name, matches))

    def _cells(self, rival: str, matches: list[tuple[str, float]]) -> tuple[str, ...]:
        """The fastest of these and how much faster than the rival it is."""
        if not matches:
            return f"none up to {SHARES[-1]:.0%}", "–", "–", "–"
        form, share = fastest = min(matches, key=self._times.get)
        name = f"{share:.1%}" if form == DEFAULTS else f"{share:.1%}, {form}"
        speed = f"{self._times[rival] / self._times[fastest]:.2f}"
        return name, f"{self._computed[fastest]:.1%}", self._ms(fastest), speed

    def _ms(self, name: str | tuple[str, float]) -> str:
        return f"{self._times[name] * 1e3:.2f}"


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_grids(parser)
    parser.add_argument("--seconds", type=float, default=0.5, help="least time spent on one figure")
    common.add_settled(parser)
    arguments = parser.parse_args()
    for call in calls_on_grids(arguments, GRIDS):
        Comparison(*call, common.timing(arguments)).print()


if __name__ == "__main__":
    main()

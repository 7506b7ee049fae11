"""One carved attention call with its heads over several devices of one process, as ComfyUI's node computes it.

    python -m benchmarks.heads_over_devices --devices cuda:0 cuda:1

The call goes the way of a run (`jenga.runtime.session.attend`), with q, k, v as a projection gives them. One device and
all devices take turns; every output is compared bit by bit with that of one device. Needs torch and jenga alone.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from unittest import mock

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks import common, scaling
from benchmarks.common import cases, print_head, print_row
from jenga import AnchorConfig, JengaConfig, TokenGrid
from jenga.runtime import head_split
from jenga.runtime.call import ModelCall
from jenga.runtime.carved_call import CarvedCall
from jenga.runtime.lane import copy_rows, packed
from jenga.runtime.layout import TokenLayout
from jenga.runtime.run import Run, StageState
from jenga.runtime.session import attend
from jenga.runtime.settings import CarvingSettings

CASES = {
    "hunyuan-video": cases.Case("24 × 115,200 × 128", grid=(32, 45, 80), heads=24, head_dim=128),
    "wan-14b": cases.Case("40 × 75,600 × 128", grid=(21, 45, 80), heads=40, head_dim=128),
    "tiny": cases.Case("5 × 512 × 32", grid=(4, 8, 16), heads=5, head_dim=32),
}
SAME = "yes"
DENSE = {"cuDNN": SDPBackend.CUDNN_ATTENTION, "FLASH": SDPBackend.FLASH_ATTENTION, "math": SDPBackend.MATH}


class Notes(Run):
    """A run that remembers what went wrong: a benchmark of one device under the name of two is none."""

    def __init__(self):
        super().__init__()
        self.listener.fallback = self.refuse
        self.listener.note = lambda text: None

    @staticmethod
    def refuse(reason: str) -> None:
        raise RuntimeError(f"heads over devices: every call must run where it should, got {reason}")


class Calls:
    """Calls of one layer on the devices of a settings object, a model call each."""

    def __init__(self, case: cases.Case, tensors, settings: CarvingSettings, dense: Callable):
        self._layout, self._tensors, self._settings = TokenLayout(TokenGrid(*case.grid)), tensors, settings
        self._run, self._dense = Notes(), dense

    def __call__(self) -> torch.Tensor:
        self._run.begin_evaluation()
        keys = self._run.number_passes(("prompt",))
        call = ModelCall(keys, self._run.evaluation, self._layout, torch.tensor(0.5), 100)
        carved = CarvedCall.begin("benchmark", self._settings, StageState(self._run), call)
        carved.own_exact = True  # anchors take our own kernel where it is the fastest, as in a graph of its own
        of_heads = lambda q, k, v, mask: self._dense(q, k, v)  # noqa: E731
        return attend(carved, None, *self._tensors, None, None, lambda: self._dense(*self._tensors), None, of_heads)

    def close(self) -> None:
        self._run.close()


def dense_by(name: str) -> Callable:
    def dense(q, k, v):
        with sdpa_kernel(DENSE[name]):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    return dense


def in_turn(calls: dict, devices: list[torch.device], repeats: int) -> dict:
    """Median seconds of each call, the work on all devices included."""
    times = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            wait(devices)
            start = time.perf_counter()
            call()
            wait(devices)
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def wait(devices: list[torch.device]) -> None:
    for device in devices:
        if device.type == "cuda":
            torch.cuda.synchronize(device)


def rows_of(kept: list[float], backend: str) -> dict[str, dict]:
    """Row -> what its settings are."""
    configs = [JengaConfig(density=share, backend=backend, strict=True) for share in kept]
    rows, least = {f"carved {config.density:g}": {"config": config} for config in configs}, configs[0]
    rows[f"carved {kept[0]:g} + residual"] = {"config": least, "anchors": (AnchorConfig(0),)}
    rows["dense"] = {"config": least, "min_tokens": 10**9}
    return rows


def measure_parts(case, tensors, devices, config: JengaConfig, pieces: int, repeats: int) -> scaling.Parts:
    """What benchmarks.scaling puts together; home to the second device."""
    q, k, v = tensors
    counts = sorted({-(-case.heads // parts) for parts in (1, 2, 4, 8, max(1, 4 * pieces - 4))})
    settings = CarvingSettings(config, min_tokens=0)
    calls = {count: Calls(case, tuple(x[:, :count] for x in tensors), settings, dense_by("math")) for count in counts}
    of_heads = in_turn(calls, devices, repeats)
    sent = [packed(x[:, : case.heads // 2]) for x in (q, k, v, v)]
    whole, part = torch.empty_like(v), sent[3]
    # Of memory with gaps, as heads in the last dimension of a projection are.
    moves = in_turn(
        {
            "copied": lambda: [x.to(devices[1], non_blocking=True) for x in sent],
            "packed": lambda: [packed(x[:, : part.shape[1]]) for x in tensors],
            "joined": lambda: copy_rows(whole[:, : part.shape[1]], part),
        },
        devices,
        repeats,
    )
    a_head = {name: taken / part.shape[1] for name, taken in moves.items()}
    return scaling.Parts(case.heads, pieces, of_heads, **a_head)


def compare(calls: dict) -> str:
    """Whether both give the same bits, or the largest difference. With anchors the second call is one between them."""
    largest = 0.0
    for _ in range(2):
        one, many = calls[0](), calls[1]()
        if not torch.equal(one, many):
            largest = max(largest, float((one.float() - many.float()).abs().max()))
    return f"no, {largest:.1e}" if largest else SAME


def run_case(case: cases.Case, devices: list[torch.device], options, pieces: int) -> bool:
    """Prints its tables; whether all carved outputs have the bits of one device."""
    dtype = "bf16" if devices[0].type == "cuda" else "fp32"
    tensors = common.structured_qkv(case, dtype, str(devices[0]))
    dense, names = dense_by(options.dense), tuple(map(str, devices))
    print(f"\n### {case.name}, {dtype}, dense by {options.dense}, in {pieces} pieces\n", flush=True)
    print_head("call", "1 device, ms", f"{len(devices)} devices, ms", "faster", "of dense on all", "same bits")
    seconds, same = {}, {}
    for row, chosen in rows_of(options.kept, options.backend).items():
        settings = {key: {"min_tokens": 0, **chosen, "devices": names[1:] if key else ()} for key in (0, 1)}
        calls = {key: Calls(case, tensors, CarvingSettings(**settings[key]), dense) for key in (0, 1)}
        same[row] = compare(calls)
        seconds[row] = in_turn(calls, devices, options.repeats)
        for call in calls.values():
            call.close()
    for row, (one, many) in ((row, (taken[0], taken[1])) for row, taken in seconds.items()):
        of_dense = f"{seconds['dense'][1] / many:.2f}×"
        print_row(row, f"{one * 1e3:.2f}", f"{many * 1e3:.2f}", f"{one / many:.2f}×", of_dense, same[row])
    first = next(iter(seconds))
    config = JengaConfig(density=options.kept[0], backend=options.backend, strict=True)
    parts = measure_parts(case, tensors, devices, config, pieces, options.repeats)
    print(f"\nof heads, ms: { {heads: round(taken * 1e3, 3) for heads, taken in parts.of_heads.items()} }; a head, ms:")
    print(f"copied {parts.copied * 1e3:.3f}, packed {parts.packed * 1e3:.3f}, joined {parts.joined * 1e3:.3f}\n")
    expected = {cards: scaling.call_seconds(parts, cards) for cards in scaling.CARDS}
    print(scaling.table(f"cards, {first}", *(seconds[first][key] for key in (0, 1)), expected), flush=True)
    return all(same[row] == SAME for row in same if row != "dense")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", nargs="+", default=["cuda:0", "cuda:1"], help="the first one holds the model")
    parser.add_argument("--case", choices=CASES, nargs="+", default=["hunyuan-video", "wan-14b"])
    parser.add_argument("--kept", type=float, nargs="+", default=[0.1, 0.2])
    parser.add_argument("--dense", choices=DENSE, default="cuDNN")
    parser.add_argument("--backend", default="auto", help="of JengaConfig; with one that cannot run here it ends")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--pieces", type=int, nargs="+", default=[head_split.PIECES])
    options = parser.parse_args()
    devices = [torch.device(name) for name in options.devices]
    where = torch.cuda.get_device_name(devices[0]) if devices[0].type == "cuda" else "CPU"
    print(f"{len(devices)} × {where}, torch {torch.__version__}")
    equal = []
    with torch.inference_mode():
        for name in options.case:
            for pieces in options.pieces:
                with mock.patch.object(head_split, "PIECES", pieces):
                    equal.append(run_case(CASES[name], devices, options, pieces))
    if not all(equal):
        raise SystemExit(
            "heads over devices: carved outputs must have the bits of one device, got others: see the tables"
        )


if __name__ == "__main__":
    main()

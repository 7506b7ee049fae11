"""Steps of anchored carving with what anchors keep in host memory against the same on the device, side by side.

    python -m benchmarks.residual_streaming                      a minute, 12 layers
    python -m benchmarks.residual_streaming --layers 60 --case hunyuan-video      all of HunyuanVideo's: 11 GiB

Attention alone, layer after layer, without the linear layers between them, which give copies more time. The first step
is all anchors and is not timed; each figure is the median of steps that take turns. GiB: what came from host memory in
a step. GB/s: that over the step's time, beside what the link gives to one copy that nothing waits for. waited: ms in
which the compute stream stood still until a state was there, by events. same bits: of a step's outputs, by their means
over channels. Needs torch and jenga alone.
"""

import argparse
import statistics
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from benchmarks import common
from benchmarks.common import cases, print_head, print_row
from jenga import AnchorConfig, JengaConfig, TokenGrid
from jenga.carving.attention import CarvedAttention
from jenga.runtime.anchors import Anchors
from jenga.runtime.call import AttentionInput
from jenga.runtime.copy_streams import Traffic
from jenga.runtime.host_arena import HostArena
from jenga.runtime.layout import TokenLayout
from jenga.runtime.residual_store import Budget
from jenga.runtime.session import attend_anchored

CASES = {
    "hunyuan-video": cases.Case("24 × 115,200 × 128", grid=(32, 45, 80), heads=24, head_dim=128),
    "wan-14b": cases.Case("40 × 75,600 × 128", grid=(21, 45, 80), heads=40, head_dim=128),
    "tiny": cases.Case("2 × 512 × 32", grid=(4, 8, 16), heads=2, head_dim=32),
}
PLENTY = 1 << 40
KINDS = {"carved": 0, "1 layer in 8 an anchor": 8}  # steps, and the distance of their anchors
LINK_BYTES = 256 << 20


class Layers:
    """Layers of one model on the same q, k, v, with what anchors keep where the budget says."""

    def __init__(self, case: cases.Case, tensors, layers: int, config: AnchorConfig, kept: float, budget: Budget):
        self._inputs = AttentionInput(*tensors, TokenLayout(TokenGrid(*case.grid)), 0, None, None, None)
        self._layers, self._device, self._steps = layers, tensors[0].device, 0
        self._carved = CarvedAttention(JengaConfig(density=kept))
        self._everything = CarvedAttention(JengaConfig(density=1.0, precision="16-bit"))
        self._anchors = Anchors(config, self._device, budget)

    @property
    def traffic(self) -> Traffic:
        return self._anchors.traffic

    def step(self, look=None) -> list:
        """One step; look(out) of every layer."""
        begun = self._anchors.begin(("prompt",), self._steps, "shape")
        self._steps, config = self._steps + 1, self._carved.config
        found = []
        for layer in range(self._layers):
            result = attend_anchored(
                self._anchors, begun, layer, self._inputs, config, config, lambda *_: self._carved, self._exact
            )
            found.append(look(result.out) if look else None)
        return found

    def _exact(self) -> torch.Tensor:
        inputs = self._inputs
        if self._carved.outruns_dense(inputs.q):
            return inputs.carve(self._everything).out
        return F.scaled_dot_product_attention(inputs.q, inputs.k, inputs.v)

    def describe(self) -> str:
        return self._anchors.describe()

    def close(self) -> None:
        self._anchors.close()


@dataclass
class Step:
    """seconds of a step; bytes that came from host memory; seconds that compute waited, None without streams."""

    seconds: float
    came: int
    waited: float | None


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(layers: Layers, device: torch.device) -> Step:
    traffic = layers.traffic
    came, waited = traffic.to_device, traffic.waited() or 0.0
    synchronize(device)
    start = time.perf_counter()
    layers.step()
    synchronize(device)
    seconds, after = time.perf_counter() - start, traffic.waited()
    return Step(seconds, traffic.to_device - came, None if after is None else after - waited)


def link_rate(device: torch.device) -> float:
    """Bytes a second of one copy from page-locked memory to the device, the best of five."""
    arena = HostArena.for_device(device, LINK_BYTES)
    there, here = arena.take(1, LINK_BYTES)[0], torch.empty(LINK_BYTES, dtype=torch.uint8, device=device)
    best = float("inf")
    for _ in range(5):
        synchronize(device)
        start = time.perf_counter()
        here.copy_(there, non_blocking=True)
        synchronize(device)
        best = min(best, time.perf_counter() - start)
    arena.close()
    return LINK_BYTES / best


def means(out: torch.Tensor) -> torch.Tensor:
    return out.float().mean((0, 3))


def run_kind(name: str, case: cases.Case, tensors, options, link: float) -> tuple[bool, str]:
    """Prints the row of one kind of step; whether both gave the same bits, and where the states were."""
    device, config = tensors[0].device, AnchorConfig(KINDS[name], options.bits)
    budgets = {"device": Budget(PLENTY), "host": Budget(0, PLENTY)}
    pair = {
        where: Layers(case, tensors, options.layers, config, options.kept, budget) for where, budget in budgets.items()
    }
    found: dict[str, list[Step]] = {where: [] for where in pair}
    for layers in pair.values():
        layers.step()
    for turn in range(options.repeats + 1):
        for where, layers in pair.items():
            step = timed(layers, device)
            if turn:  # the first one brings the first states, which nobody expected, and makes the buffers
                found[where].append(step)
    outputs = [layers.step(means) for layers in pair.values()]
    same = all(map(torch.equal, *outputs))
    on_device, streamed = (statistics.median(step.seconds for step in found[where]) for where in pair)
    came = statistics.median(step.came for step in found["host"])
    waits = [step.waited for step in found["host"] if step.waited is not None]
    cells = [f"{on_device * 1e3:.2f}", f"{streamed * 1e3:.2f}", f"{streamed / on_device:.3f}"]
    cells += [f"{came / 2**30:.2f}", f"{came / streamed / 1e9:.1f}", f"{link / 1e9:.1f}"]
    waited = statistics.median(waits) if waits else None
    cells += ["–", "–"] if waited is None else [f"{waited * 1e3:.2f}", f"{waited / streamed:.2%}"]
    print_row(name, *cells, "yes" if same else "no")
    said = pair["host"].describe()
    for layers in pair.values():
        layers.close()
    return same, said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--case", choices=CASES, nargs="+", default=["hunyuan-video", "wan-14b"])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--kept", type=float, default=0.05, help="share of the key blocks: that of quality balanced")
    parser.add_argument("--bits", type=int, default=4, choices=[4, 8, 16])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    device = torch.device(options.device)
    print(f"{torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU'}, torch {torch.__version__}")
    same = []
    with torch.inference_mode():
        link = link_rate(device)
        for name in options.case:
            case = CASES[name]
            tensors = common.structured_qkv(case, "bf16" if device.type == "cuda" else "fp32", str(device))
            print(f"\n### {case.name}, {options.layers} layers, {options.kept:.0%} kept, {options.bits} bits\n")
            head = ("step", "on device, ms", "streamed, ms", "streamed / on device", "GiB", "GB/s", "link, GB/s")
            print_head(*head, "waited, ms", "waited", "same bits")
            for kind in KINDS:
                equal, said = run_kind(kind, case, tensors, options, link)
                same.append(equal)
            print(f"\n{said}", flush=True)
            del tensors
    if not all(same):
        raise SystemExit("residual streaming: outputs must have the bits of a run on the device, got others")


if __name__ == "__main__":
    main()

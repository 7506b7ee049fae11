"""One forward of a video model in its full size inside ComfyUI: dense by stock, dense by cuDNN, carved by the node.

`python -m benchmarks.full_model --model wan1.3b` prints one table per model, every row as soon as it is measured. The
forward is the one evaluation of a sampler step, weights on the device before it starts. The weights are random, so no
row says anything about quality; it is checked that every output is finite. Stock is ComfyUI's attention_pytorch: it
asks PyTorch for FLASH first and for cuDNN second.

s: wall seconds of the evaluation, the device waited for on both sides; median of --repeats, after a warm-up that runs
one transformer block of each kind at the full size. attention s: of that, the time in the host's attention function
(self-attention, cross-attention and the text refiner's), between two events on the stream around each call of the
attention override, where Jenga's own work is inside. rest s: all else. kept share: mean over the video's
self-attention calls, as Jenga reports it. peak GiB: most that torch had allocated during the evaluation, with weights.
A run of one step pays what a run pays once (block order, buffers), which longer runs spread over their steps.
"""

import argparse
import gc
import sys
from statistics import median

import torch

from benchmarks.common import print_head, print_row
from benchmarks.host import library, video_models
from benchmarks.host.meter import Measured, Meter, cudnn_attention, with_override
from jenga.carving import ops

DENSE = "dense, stock"
CUDNN = "dense, cuDNN"


def measure(patcher, model: video_models.VideoModel, repeats: int) -> Measured:
    """The median evaluation by seconds, after the warm-up. Raises RuntimeError for an output that is not finite."""
    noise = torch.randn(model.latent_shape, generator=torch.Generator().manual_seed(0))
    condition = video_models.conditioning(model)
    library.sample_one_step(video_models.first_blocks_only(patcher, model), noise, condition)
    meter, found = Meter(patcher), []
    for _ in range(repeats):
        out = library.sample_one_step(meter.patcher, noise, condition)
        if not out.isfinite().all():
            raise RuntimeError(f"{model.title}: the output must be finite, got nan or inf")
        found.append(meter.measured)
    if patcher.model.model_lowvram:
        raise RuntimeError(f"{model.title}: all weights must be on the device, got some offloaded by ComfyUI")
    middle = median(measured.seconds for measured in found)
    return min(found, key=lambda measured: abs(measured.seconds - middle))


def print_measured(name: str, measured: Measured, stock: Measured, kept: float) -> None:
    rest = measured.seconds - measured.attention
    peak = "–" if measured.peak is None else f"{measured.peak / 2**30:.1f}"
    cells = [f"{x:.3f}" for x in (measured.seconds, stock.seconds / measured.seconds, measured.attention, rest)]
    print_row(name, *cells, f"{kept:.3f}", peak)


def run(model: video_models.VideoModel, arguments: argparse.Namespace) -> None:
    """One model's table."""
    patcher = video_models.build(model, torch.bfloat16)
    weights = sum(weight.numel() for weight in patcher.model.diffusion_model.parameters())
    size = " × ".join(map(str, model.clip))
    print(f"\n## {model.title}, {size}\n")
    print(f"{weights / 1e9:.2f} · 10⁹ weights, {model.video_tokens:,} video tokens, {model.text[0]} text tokens\n")
    notes = []
    print_head("run", "s", "× stock", "attention s", "rest s", "kept share", "peak GiB")
    stock = measure(patcher, model, arguments.repeats)
    print_measured(DENSE, stock, stock, 1.0)
    if arguments.device == "cuda":
        try:
            cudnn = measure(with_override(patcher, cudnn_attention), model, arguments.repeats)
            print_measured(CUDNN, cudnn, stock, 1.0)
        except RuntimeError as refusal:
            notes.append(f"{CUDNN}: does not run here, {str(refusal).splitlines()[0]}")
    else:
        notes.append(f"{CUDNN}: left out, it needs a GPU")
    for kept in arguments.kept or (0.1, 0.2):
        name = f"Jenga Attention, {kept:.0%}"
        widgets = {"min_tokens": 0} if arguments.tiny else {}
        carved = library.jenga_attention(patcher, quality="custom", density=kept, **widgets)
        measured = measure(carved, model, arguments.repeats)
        summary = library.last_report(carved)
        print_measured(name, measured, stock, summary["kept_share"])
        calls = ", ".join(f"{backend} ({count}×)" for backend, count in summary["backends"].items())
        notes.append("; ".join([f"{name}: {calls}", *summary["fallbacks"], *summary["notes"]]))
    print("", *notes, sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=list(video_models.MODELS), help="may repeat; all without")
    parser.add_argument("--kept", type=float, action="append", help="share of blocks kept, may repeat; 0.1 and 0.2")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cuda", "cpu"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="a few narrow layers and a small clip, for a CPU")
    arguments = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # a row is out when it is measured
    library.start(arguments.device)
    native = ops.native_status()
    where = torch.cuda.get_device_name() if arguments.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{where}, torch {torch.__version__}, ComfyUI {library.version()}, bf16")
    print(f"Jenga's kernels: CPU {native.cpu}, CUDA {native.cuda} {native.reason}")
    models = video_models.TINY_MODELS if arguments.tiny else video_models.MODELS
    with torch.inference_mode():
        for name in arguments.model or models:
            run(models[name], arguments)
            library.unload()
            gc.collect()
            if arguments.device == "cuda":
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()

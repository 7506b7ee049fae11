"""Video models in their full size inside ComfyUI, with random weights: single evaluations, whole runs, a profile.

    python -m benchmarks.full_model --model wan1.3b                           one evaluation, dense and carved
    python -m benchmarks.full_model --model wan1.3b --steps 50 --run flash    whole runs (benchmarks/whole_runs.py)
    python -m benchmarks.full_model --model wan1.3b --profile --kept 0.1      operators of a carved evaluation

Each with --fp8 for weights in FP8 and ComfyUI's fast products of them. Tables are Markdown, a row is out as soon as it
is measured. ComfyUI is the one that Python finds ($PYTHONPATH), else $JENGA_COMFYUI, else the cached one; the parts of
it that `python -m benchmarks.host.library FOLDER` copies are enough. The weights are random, so no row says anything
about quality; it is checked that every output is finite. Stock is ComfyUI's attention_pytorch: it asks PyTorch for
FLASH first and for cuDNN second.

One evaluation, the median of --repeats. s: its seconds on the device. attention s: of that, the time in the host's
attention function, self-attention, cross-attention and the text refiner's, where Jenga carves. rest s: all else.
linear s: of the rest, the linear layers. patch s: of the rest, what is neither in the model's forward nor in an
attention call: Jenga's own work, and ComfyUI's around the model. kept share: mean over the video's self-attention
calls, as Jenga reports it. peak GiB: most that torch had allocated, with weights. Before a row its run is made with one
transformer block of each kind, so that every kernel is loaded. A run of one step pays what a run pays once (block
order, buffers), which longer runs spread over their steps.
"""

import argparse
import gc
import shlex
import sys
from datetime import date
from functools import partial
from itertools import product
from pathlib import Path

import torch

from benchmarks import model_profile, whole_runs
from benchmarks.common import print_head, print_row
from benchmarks.cost_model import tables
from benchmarks.host import library, preset_runs, video_models
from benchmarks.host.meter import Times
from benchmarks.host.whole_model import WholeModel
from jenga.carving import ops
from jenga.carving.quantise import PRECISIONS

KEPT = (0.1, 0.2)


def print_measured(name: str, times: Times, stock: Times, kept: float) -> None:
    seconds = times.predictions
    figures = (seconds, stock.predictions / seconds, times.attention, seconds - times.attention)
    cells = [f"{x:.3f}" for x in (*figures, times.linear, times.patch)]
    print_row(name, *cells, f"{kept:.3f}", whole_runs.peak(times))


def evaluations(host: WholeModel, arguments: argparse.Namespace) -> None:
    """One model's table of single evaluations."""
    notes = []
    print_head(*("run", "s", "× stock", "attention s", "rest s", "linear s", "patch s", "kept share", "peak GiB"))
    repeats = arguments.repeats
    stock, _ = whole_runs.measure(host, preset_runs.dense, repeats=repeats)
    print_measured(whole_runs.DENSE, stock, stock, 1.0)
    if reason := whole_runs.no_cudnn(host):
        notes.append(f"{whole_runs.CUDNN}: {reason}")
    else:
        print_measured(whole_runs.CUDNN, whole_runs.measure(host, preset_runs.cudnn, repeats=repeats)[0], stock, 1.0)
    for kept, precision in product(arguments.kept or KEPT, arguments.precision or ("auto",)):
        name = f"Jenga Attention, {kept:.0%}" + ("" if precision == "auto" else f", {precision}")
        carved = partial(preset_runs.kept, share=kept, precision=precision)
        times, variant = whole_runs.measure(host, carved, repeats=repeats)
        summary = variant.report().summary()
        print_measured(name, times, stock, summary["kept_share"])
        calls = ", ".join(f"{backend} ({count}×)" for backend, count in summary["backends"].items())
        notes.append("; ".join([f"{name}: {calls}", *summary["fallbacks"], *summary["notes"]]))
    print("", *notes, sep="\n")


def run(model: video_models.VideoModel, arguments: argparse.Namespace) -> None:
    """One model's tables."""
    host = WholeModel(model, arguments.fp8, arguments.tiny)
    weights = sum(weight.numel() for weight in host.model.model.diffusion_model.parameters())
    title, size = model.title + (" FP8" if arguments.fp8 else ""), " × ".join(map(str, model.clip))
    what = f"{weights / 1e9:.2f} · 10⁹ weights, {model.video_tokens:,} video tokens, {model.text[0]} text tokens\n"
    costs = tables(arguments.costs.read_text()) if arguments.costs else {}
    if arguments.profile:
        print(f"\n## {title}, {size}, profile\n\n{what}")
        for kept in arguments.kept or KEPT[:1]:
            model_profile.write(host, kept)
    elif arguments.steps:
        for steps in arguments.steps:
            print(f"\n## {title}, {size}, {steps} steps\n\n{what}")
            whole_runs.write(host, steps, arguments, costs.get(title))
    else:
        print(f"\n## {title}, {size}\n\n{what}")
        evaluations(host, arguments)
    if arguments.fp8:
        print(f"{title}, matrix products of one transformer block of each kind: {model_profile.products(host)}")


def _named_count(text: str) -> tuple[str, int]:
    name, _, count = text.partition("=")
    return name, int(count)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=list(video_models.MODELS), help="may repeat; all without")
    parser.add_argument("--kept", type=float, action="append", help="share of blocks kept, may repeat; 0.1 and 0.2")
    parser.add_argument(
        "--precision", action="append", choices=["auto", *PRECISIONS], help="of carved evaluations, may repeat; auto"
    )
    parser.add_argument("--repeats", type=int, default=3, help="of an evaluation")
    parser.add_argument("--steps", type=int, action="append", help="whole runs of so many steps, may repeat")
    parser.add_argument("--run", action="append", help=f"a whole run, may repeat; {', '.join(whole_runs.USUAL)}")
    parser.add_argument("--dense-steps", type=int, default=2, help="steps that a dense whole run is told from")
    parser.add_argument("--easycache-calls", type=float, help="steps that EasyCache computes (19.5 of 50: RESULTS.md)")
    parser.add_argument(
        "--computed",
        type=_named_count,
        action="append",
        metavar="PRESET=N",
        help="steps that a run of a preset with adaptive reuse computes, may repeat (docs/frontier.md has the demo's)",
    )
    parser.add_argument(
        "--costs", type=Path, help="single evaluations, printed before: what the cost model says of runs"
    )
    parser.add_argument("--profile", action="store_true", help="operators of a carved evaluation, and host syncs")
    parser.add_argument("--fp8", action="store_true", help="weights in FP8, fast products where the device has them")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="a few narrow layers and a small clip, for a CPU")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    sys.stdout.reconfigure(line_buffering=True)  # a row is out when it is measured
    library.start(arguments.device)
    native = ops.native_status()
    where = torch.cuda.get_device_name() if arguments.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{where}, torch {torch.__version__}, ComfyUI {library.version()}, bf16, {date.today().isoformat()}:\n")
    print(f"    python -m benchmarks.full_model {shlex.join(sys.argv[1:])}\n")
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

"""`make demo`: the demo workflow in a real, headless ComfyUI, dense and with Jenga on the same noise.

Starts ComfyUI, samples workflows/demo_ab.json once for each variant (demo/variants.py) after a discarded warm-up of
dense and Jenga, times the sampler nodes from the outside, then decodes. Writes latents, videos, report.png and
report.json to demo/output; if something fails on the way, what was finished is written and the table printed.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import torch
from comfy_cli.workflow_to_api import convert_ui_to_api

from demo import clip_length, clips, comfyui, machine, summary, variants
from demo.progress import Progress
from demo.server import ROOT, WEIGHTS, Server, ServerError
from demo.summary import Run
from jenga.sampling.presets import ROWS

WORKFLOW = ROOT / "workflows" / "demo_ab.json"
BASE = ROOT / ".cache" / "demo"
WARM_UP_STEPS = 2
PRESETS = {row.name: row for row in ROWS if row.reuses_steps}  # the other one is for fewer steps


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompt", help="words of the demo's vocabulary (default: the workflow's own prompt)")
    parser.add_argument("--preset", default="balanced", choices=list(PRESETS))
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--frames", type=int, choices=clip_length.CHOICES, help="default: as this machine is fast")
    parser.add_argument("--comfyui", help="folder of an installed ComfyUI (default: fetch one into .cache)")
    parser.add_argument("--output", type=Path, default=ROOT / "demo" / "output")
    parser.add_argument("--cpu", action="store_true", help="stay on the CPU where there is a GPU")
    return parser.parse_args()


def warm_up(server: Server, prompt: dict, settings: dict) -> None:
    """A short run of dense and of Jenga that is thrown away."""
    configured = variants.configure(prompt, **{**settings, "steps": WARM_UP_STEPS, "seed": settings["seed"] + 1})
    for name in ("dense", "jenga"):
        edited, sampler = variants.warm_up(configured, name)
        server.run(edited, Progress(sampler, "warm-up"))


def sample(server: Server, prompt: dict, name: str) -> Run:
    """One variant: its seconds in the sampler node, its latent and its report."""
    shutil.rmtree(server.base / "output" / name, ignore_errors=True)
    edited, sampler = variants.variant(prompt, name)
    progress = Progress(sampler, name)
    outputs = server.run(edited, progress)
    (saved,) = outputs["latent"]["latents"]
    report = None if name == "dense" else outputs[variants.find(edited, variants.REPORT)]["jenga_report"][0]
    return Run(progress.seconds, server.base / "output" / saved["subfolder"] / saved["filename"], report)


def decode(server: Server, prompt: dict, name: str, run: Run) -> torch.Tensor:
    """Frames [F, H, W, 3] in 0..1 of one variant's latent."""
    folder = server.base / "output"
    edited = variants.decoding(prompt, run.latent.relative_to(folder).as_posix(), f"{name}/frame")
    outputs = server.run(edited, Progress("decode", f"decode {name}"))
    return clips.read_frames([folder / image["subfolder"] / image["filename"] for image in outputs["frames"]["images"]])


def measure(arguments: argparse.Namespace, here: machine.Machine, settings: dict, runs: dict[str, Run]) -> None:
    """Fills `runs`, so that a caller has what was finished when this raises: every variant, then the decoded clips."""
    with Server(comfyui.ensure(arguments.comfyui), BASE, machine=here, models=WEIGHTS) as server:
        prompt = convert_ui_to_api(json.loads(WORKFLOW.read_text()), server.get("object_info"))
        warm_up(server, prompt, settings)
        configured = variants.configure(prompt, **settings)
        for name in variants.names(settings["preset"]):
            runs[name] = sample(server, configured, name)
        for name in ("dense", *summary.COMPARED):
            runs[name].frames = decode(server, configured, name, runs[name])


def main() -> int:
    arguments = parse_arguments()
    here = machine.measure(cpu=arguments.cpu or not torch.cuda.is_available())
    print(here)
    frames, reason = (arguments.frames, "") if arguments.frames else clip_length.choose(here, arguments.steps)
    if reason:
        print(reason)
    print(f"preset {arguments.preset}, {arguments.steps} steps, {frames} frames", flush=True)
    settings = {"text": arguments.prompt, "frames": frames, "dtype": here.model.name}
    settings |= {"preset": PRESETS[arguments.preset], "seed": arguments.seed, "steps": arguments.steps}
    runs, failure = {}, None
    try:
        measure(arguments, here, settings, runs)
    except (ServerError, FileNotFoundError, RuntimeError) as error:
        failure = str(error)
    except KeyboardInterrupt:
        failure = "stopped by the user"
    if runs:
        said = {**settings, "preset": arguments.preset, "device": here.name, "machine": str(here)}
        found = summary.summarise(runs, said)
        summary.print_table(found)
        summary.write(arguments.output, runs, found)
    if failure:
        print(f"\ndemo: {failure}", file=sys.stderr)
    return int(failure is not None)


if __name__ == "__main__":
    sys.exit(main())

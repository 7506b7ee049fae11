"""Quality without a reference: every run samples many prompts of the demo model, and a probe looks at the clips.

`python -m benchmarks.clip_quality --steps 50` samples 128 prompts in full size with every run and writes the tables;
definitions: benchmarks/clip_metrics.py. A run that is in --folder already is not sampled again, so that a benchmark can
go on where it was cut short.

Dense sampling with other seeds is the floor: what two sets of clips differ by that are equally good. The two broken
runs (5 % kept without compensation; 4 calls) show whether a loss is seen. `--only '^search'` samples the settings of
benchmarks/search_space.py instead, for benchmarks/frontier.py, and dense, which all are compared with; `--only
'^precision'` those that benchmarks/clip_precision.py compares. Without the floor, which takes as long as dense, there
is no Fréchet distance to dense.
"""

import argparse
import json
import re
import zlib
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from benchmarks import clip_runs, clip_tables, search_space
from benchmarks.clip_set import ClipSet, Examiner
from benchmarks.common import Unavailable
from benchmarks.host import preset_runs
from benchmarks.host.demo_host import DTYPES, SIZES, DemoHost
from benchmarks.host.library import ROOT
from benchmarks.host.preset_runs import Variant
from demo import probe, scenes
from demo.prompts import SLOTS

NO_SEARCH = f"^(?!{search_space.PREFIX}|{search_space.PRECISE_PREFIX})"
WARM_UP_STEPS = {"cuda": 12, "cpu": 0}
PIXELS = 8  # of the clip to one of the latent
SCENE_SEED, REAL_SEED = 20_000, 30_000


class Bench:
    """Runs one after the other, each into its file."""

    def __init__(self, host: DemoHost, scene: dict[str, torch.Tensor], steps: int, folder: Path):
        self.host, self.scene, self.steps, self.folder = host, scene, steps, folder
        self.count = len(scene["x"])
        self._probe = probe.load(host.device)
        self._dense: list[torch.Tensor] = []  # frames, fp16 on the CPU: 48 MB a clip of full size

    def path(self, run: str) -> Path:
        return self.folder / clip_runs.file_name(run)

    def measure(self, name: str, variant: Variant) -> ClipSet:
        examiner, notes = Examiner(self._probe), set()
        if warm_up := WARM_UP_STEPS[self.host.device.type]:
            variant.sample(0, min(self.steps, warm_up))
        first = self.count if name == clip_runs.OTHER_SEEDS else 0
        compared = name not in (clip_runs.DENSE, clip_runs.OTHER_SEEDS)
        latents = []
        for index in tqdm(range(self.count), desc=name):
            prompt = first + index
            latent, seconds, calls = self.host.timed(lambda prompt=prompt: variant.sample(prompt, self.steps))
            frames, report = self.host.decode(latent), variant.report()
            expected = self._expected(index) if compared else None
            cost = float("nan")
            if report is not None and report.backends:  # without Jenga Attention it has no attention calls
                notes.update(report.fallbacks)
                cost = preset_runs.attention_cost(report)
            work = clip_runs.work_of(name, report, calls)
            examiner.add(frames, expected, seconds=seconds, calls=calls, cost=cost, work=work)
            if name == clip_runs.DENSE:
                latents.append(latent.cpu())
                self._dense.append(frames.half().cpu())
        if latents:
            save_file({"latents": torch.cat(latents)}, self.folder / "dense_latents.safetensors")
        return examiner.finish(tuple(sorted(notes)))

    def _expected(self, index: int) -> torch.Tensor:
        """Frames of the dense run. Decoded again where it was sampled before."""
        if not self._dense:
            latents = load_file(self.folder / "dense_latents.safetensors")["latents"]
            self._dense = [self.host.decode(latent[None]).half().cpu() for latent in tqdm(latents, desc="decoding")]
        return self._dense[index].to(self.host.device).float()

    def real(self, reconstructed: bool = False) -> ClipSet:
        """Procedural clips of the same words, one for every prompt."""
        examiner = Examiner(self._probe)
        for clip in self._rendered(REAL_SEED):
            frames = clip[0].movedim(0, -1)
            examiner.add(self.host.reconstruct(frames) if reconstructed else frames)
        return examiner.finish()

    def reference(self) -> torch.Tensor:
        """Features of other ones, REFERENCES of every prompt: row = prompt + number of prompts · n."""
        seeds = range(REAL_SEED + 1, REAL_SEED + 1 + clip_runs.REFERENCES)
        clips = (clip for seed in seeds for clip in self._rendered(seed, probe.EVERY))
        return torch.cat([self._probe(probe.prepare(clip))[1].cpu() for clip in clips])

    def _rendered(self, seed: int, every: int = 1) -> Iterator[torch.Tensor]:
        """[1, 3, F, H, W] for every prompt."""
        scene = clip_runs.same_words(self.scene, seed)
        for index in range(self.count):
            one = {name: value[index : index + 1].to(self.host.device) for name, value in scene.items()}
            yield scenes.render(one, PIXELS * self.host.rows, PIXELS * self.host.columns, every=every)


def introduction(host: DemoHost, arguments: argparse.Namespace) -> str:
    """What ran where, and the command."""
    options = [f"--device {arguments.device}", f"--size '{arguments.size}'", f"--prompts {arguments.prompts}"]
    options += [f"--steps {arguments.steps}"] + ([f"--only '{arguments.only}'"] if arguments.only != NO_SEARCH else [])
    return (
        f"{host.described()}, {arguments.steps} steps, {arguments.prompts} prompts, {date.today().isoformat()}:\n\n"
        f"    python -m benchmarks.clip_quality {' '.join(options)}"
    )


def write_setting(host: DemoHost, scene: dict[str, torch.Tensor], arguments: argparse.Namespace) -> None:
    """What clip_tables reads. Raises SystemExit if the folder holds runs of another setting."""
    path = arguments.folder / clip_tables.SETTING
    names = (clip_runs.REAL, clip_runs.RECONSTRUCTED, *clip_runs.runs(host, arguments.steps))
    asked = {slot: scene[slot].tolist() for slot in SLOTS}
    kept = {"steps": arguments.steps, "size": arguments.size, "asked": asked}
    kept |= {"probe": zlib.crc32(probe.WEIGHTS.read_bytes())}  # features of two probes cannot be compared
    if path.exists():
        before = json.loads(path.read_text())
        if any(before[key] != value for key, value in kept.items()):
            raise SystemExit(f"clip_quality: --folder must be one for every setting, got {path} of another one")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"introduction": introduction(host, arguments), **kept, "names": names}))


def sample_all(bench: Bench, only: str) -> None:
    """Every run that has no file yet; what all others are compared with in any case."""
    reference = bench.folder / clip_tables.REFERENCE
    if not reference.exists():
        save_file({"features": bench.reference()}, reference)
    real = {
        clip_runs.REAL: bench.real,
        clip_runs.RECONSTRUCTED: lambda: bench.real(reconstructed=True),
    }
    always = (clip_runs.REAL, clip_runs.DENSE)
    for name, make in {**real, **clip_runs.runs(bench.host, bench.steps)}.items():
        if bench.path(name).exists() or not (name in always or re.search(only, name)):
            continue
        try:
            clips = make() if name in real else bench.measure(name, make())
        except Unavailable as reason:
            print(f"{name}: {reason}")
            continue
        clips.save(bench.path(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cuda", "cpu"))
    parser.add_argument("--size", default="full", choices=SIZES)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--dtype", default="auto", choices=["auto", *DTYPES], help="of the model (default: the faster)")
    parser.add_argument("--only", default=NO_SEARCH, help="runs in whose name it is found (default: all but these two)")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "clip_quality", help="one for every setting")
    arguments = parser.parse_args()
    scene = clip_runs.draw_scenes(arguments.prompts, SCENE_SEED)
    host = DemoHost(arguments.size, arguments.device, arguments.dtype, clip_runs.texts(scene))
    write_setting(host, scene, arguments)
    sample_all(Bench(host, scene, arguments.steps, arguments.folder), arguments.only)
    clip_tables.write(arguments.folder)


if __name__ == "__main__":
    main()

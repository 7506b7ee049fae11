"""Ways to change the size within a run, by the final latent against dense: on the demo model, attention dense.

    python -m benchmarks.switch --device cpu --size half --prompts 4 --steps 30 --steps 8
    python -m benchmarks.switch --device cpu --size half --prompts 4 --steps 30 --steps 8 --spectrum

The node is the *Progressive Resolution Sampler*, ways taking turns. --spectrum asks instead whether the step of the
switch should follow the clip: it samples every prompt with the switch at many steps, then picks for each prompt the
last step at which the content beyond the small size still lies under the noise by some factor, where the factor makes
the mean number of small steps that of a fixed one. The power of that content is taken from the dense clip itself, so
that no estimate in a run can do better.
"""

import argparse
from collections.abc import Sequence
from statistics import fmean

import torch

from benchmarks.common import print_head, print_row
from benchmarks.frame_quality import latent_psnr
from benchmarks.host.demo_host import SIZES, DemoHost
from demo.contact_sheet import PROMPTS
from jenga.sampling.presets import whole_schedule_boundary
from jenga.sampling.resolution import dct_truncate, stage_size

WAYS = ("bicubic", "dct", "trajectory")
FRACTIONS = (0.15, 0.3, 0.5)
FACTORS = torch.logspace(-4, 2, 241, dtype=torch.float64).tolist()  # content over noise


class Runs:
    """Dense and staged runs of one number of steps."""

    def __init__(self, host: DemoHost, steps: int, scale: float, prompts: int):
        self.host, self.steps, self.scale = host, steps, scale
        self.dense = [self._clip(host.sample(host.model, prompt, steps)) for prompt in range(prompts)]

    def _clip(self, latent: torch.Tensor) -> torch.Tensor:
        """In the model's space, where channels have one spread."""
        return self.host.model.model.process_latent_in(latent).float().cpu()

    def psnr(self, prompt: int, way: str, small_steps: int) -> float:
        """dB of the final latent against dense, over dense's own range; the first steps are small."""
        latent = self.host.sample_progressive(
            self.host.model.clone(),
            prompt,
            self.steps,
            preset="custom",
            step_reuse="off",
            scales=f"{self.scale}, 1.0",
            switch_points=f"{(small_steps - 0.5) / self.steps}",
            shift_ratios="1.0",
            upsample=way,
        )
        return latent_psnr(self._clip(latent), self.dense[prompt])

    def power_beyond(self, prompt: int) -> float:
        """Mean square of a clip's content, for every frequency that the small size lacks."""
        clip = self.dense[prompt].double()
        small = dct_truncate(clip, *stage_size(tuple(clip.shape[-2:]), self.scale, (2, 2)))
        return float((clip.square().sum() - small.square().sum()) / (clip.numel() - small.numel()))


def compare_ways(runs: Runs, prompts: int) -> None:
    print_head("steps", "switch after", "small steps", *(f"{way} dB" for way in WAYS))
    for fraction in FRACTIONS:
        small = whole_schedule_boundary(fraction, runs.steps)
        found = [[runs.psnr(prompt, way, small) for way in WAYS] for prompt in range(prompts)]
        means = (f"{fmean(column):.2f}" for column in zip(*found, strict=True))
        print_row(str(runs.steps), f"{fraction:.0%}", str(small), *means)


def compare_rules(runs: Runs, prompts: int) -> None:
    last = whole_schedule_boundary(0.6, runs.steps)
    choices = range(1, last + 1, 1 if last < 10 else 2)
    psnr = [{small: runs.psnr(prompt, "trajectory", small) for small in choices} for prompt in range(prompts)]
    powers = [runs.power_beyond(prompt) for prompt in range(prompts)]
    print("power beyond the small size:", ", ".join(f"{power:.3f}" for power in powers))
    sigmas = runs.host.sigmas(runs.host.model, runs.steps).tolist()

    rules = {tuple(last_under_noise(power, sigmas, choices, factor) for power in powers) for factor in FACTORS}
    print_head("steps", "small steps", "fixed dB", "by spectrum, mean small steps", "dB", "which")
    for small in choices:
        fixed = fmean(one[small] for one in psnr)
        rule = max((one for one in rules if fmean(one) >= small), key=lambda one: -fmean(one), default=None)
        if rule is None:
            continue
        by_spectrum = fmean(one[count] for one, count in zip(psnr, rule, strict=True))
        which = " ".join(map(str, rule))
        print_row(str(runs.steps), str(small), f"{fixed:.2f}", f"{fmean(rule):.2f}", f"{by_spectrum:.2f}", which)


def last_under_noise(power: float, sigmas: list[float], choices: Sequence[int], factor: float) -> int:
    """The last of `choices`, numbers of small steps, after which content of that power is at most `factor` of the
    noise, by mean squares in a flow; the first where none is.
    """
    under = [small for small in choices if (1 - sigmas[small]) ** 2 * power <= factor * sigmas[small] ** 2]
    return max(under, default=choices[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", default="half", choices=SIZES)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--prompts", type=int, default=4, help="how many of the contact sheet's prompts")
    parser.add_argument("--steps", type=int, action="append", help="default: 30 and 8")
    parser.add_argument("--scale", type=float, default=0.75, help="of the small stage")
    parser.add_argument("--spectrum", action="store_true", help="compare rules for the step of the switch instead")
    arguments = parser.parse_args()
    prompts = min(arguments.prompts, len(PROMPTS))
    host = DemoHost(arguments.size, arguments.device, arguments.dtype)
    print(f"{host.tokens} tokens, {host.dtype}, scale {arguments.scale}, {prompts} prompts, {arguments.device}\n")
    for steps in arguments.steps or [30, 8]:
        runs = Runs(host, steps, arguments.scale, prompts)
        (compare_rules if arguments.spectrum else compare_ways)(runs, prompts)


if __name__ == "__main__":
    main()

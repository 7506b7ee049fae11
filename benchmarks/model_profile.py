"""What is left of an evaluation when attention is cheap, by operator, and how often the host waits for the device in
it: what `benchmarks.full_model --profile` prints.

s: seconds of the operator's own kernels (on a CPU, of its own work) in one carved evaluation, in torch's profiler.
Waits are counted in all evaluations of a run, of the whole model and of one with a single transformer block of each
kind: a wait in each layer would make the two differ.
"""

import re

from benchmarks.common import print_head, print_row
from benchmarks.host import preset_runs
from benchmarks.host.profile import Profile, profile_predictions
from benchmarks.host.whole_model import WholeModel

PRODUCT = re.compile(r"mm(_v2)?$")  # aten::addmm, aten::_scaled_mm_v2, …
SHOWN = 15  # operators with a row of their own
ANCHORED, ANCHORED_STEPS = "high", 4  # a quality that has anchors in so few steps


def profiled(host: WholeModel, kept: float) -> Profile:
    """An evaluation of Jenga Attention at a kept share, after one that is thrown away."""
    variant = preset_runs.kept(host, kept)
    variant.sample(0, 1)
    return profile_predictions(lambda: variant.sample(0, 1), host.device)


def anchored(host: WholeModel) -> Profile:
    """A short run with anchors: a step at which every layer has one, and steps that use what it kept."""
    variant = preset_runs.quality(host, ANCHORED)
    return profile_predictions(lambda: variant.sample(0, ANCHORED_STEPS), host.device)


def write(host: WholeModel, kept: float) -> None:
    """Both tables of one model."""
    short = host.first_blocks_only()
    first, whole = profiled(short, kept), profiled(host, kept)
    name, total, ranked = f"Jenga Attention, {kept:.0%}", sum(whole.seconds.values()), whole.seconds.most_common()
    print(f"{name}:\n")
    print_head("operator", "calls", "s", "share")
    for operator, seconds in ranked[:SHOWN]:
        print_row(operator, whole.calls[operator], f"{seconds:.4f}", f"{seconds / total:.1%}")
    others = [operator for operator, _ in ranked[SHOWN:]]
    seconds = sum(whole.seconds[operator] for operator in others)
    print_row("all others", sum(whole.calls[one] for one in others), f"{seconds:.4f}", f"{seconds / total:.1%}")
    print()
    print_head("run", "waits of the host", "with one transformer block of each kind")
    print_row(name, words(whole), words(first))
    print_row(f"quality {ANCHORED}, {ANCHORED_STEPS} steps", words(anchored(host)), words(anchored(short)))


def products(host: WholeModel) -> str:
    """The operators that a dense evaluation multiplies matrices by: ComfyUI and comfy-kitchen cast FP8 weights where
    they cannot multiply them, and go on in silence.
    """
    short = host.first_blocks_only()
    found = profile_predictions(lambda: preset_runs.dense(short).sample(0, 1), host.device)
    return ", ".join(f"{name} ({count}×)" for name, count in sorted(found.calls.items()) if PRODUCT.search(name))


def words(found: Profile) -> str:
    """What made the host wait, and how often."""
    return ", ".join(f"{name} {count}" for name, count in sorted(found.waits.items())) or "none"

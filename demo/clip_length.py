"""How long a clip the demo makes: the longest that this machine finishes in the time the demo may take."""

from demo.machine import LAYERS, Machine, layer_flops
from demo.variants import latent_frames

CHOICES = (49, 33, 17)  # frames
BUDGET_SECONDS = 630
TOKENS_PER_FRAME = 20 * 32  # of the latent of 512 x 320
DENSE_RUNS = 1.65  # what all sampling of a demo costs, in dense runs: dense 1, carving .27, stages .2, jenga .15
WARM_UP_STEPS = 4
DECODED_CLIPS = 3
DECODER_FLOPS = 4.6e10  # per latent frame, at one thread's rate: torch's fp32 Conv3d keeps to one


def estimate(machine: Machine, frames: int, steps: int) -> float:
    """Seconds that sampling and decoding take on a CPU."""
    count = latent_frames(frames)
    step = LAYERS * layer_flops(count * TOKENS_PER_FRAME) / (machine.model.rate * machine.threads * 1e9)
    decode = count * DECODER_FLOPS / (machine.vae.rate * 1e9)
    return step * (DENSE_RUNS * steps + WARM_UP_STEPS) + decode * DECODED_CLIPS


def choose(machine: Machine, steps: int) -> tuple[int, str]:
    """The number of frames, and a line that says why it is not the full clip; empty where it is."""
    if machine.device != "cpu":
        return CHOICES[0], ""
    full = estimate(machine, CHOICES[0], steps)
    if full <= BUDGET_SECONDS:
        return CHOICES[0], ""
    frames = next((n for n in CHOICES if estimate(machine, n, steps) <= BUDGET_SECONDS), CHOICES[-1])
    text = f"{CHOICES[0]} frames would take this machine about {full / 60:.0f} minutes, the demo allows"
    text += f" {BUDGET_SECONDS / 60:.1f}: a clip of {frames} frames, about {estimate(machine, frames, steps) / 60:.0f}"
    return frames, f"{text} minutes (`make demo FRAMES={CHOICES[0]}` makes the whole clip)"

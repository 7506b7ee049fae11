"""Train the demo's transformer: `python -m demo.train_dit --seconds 300 --output weights`, after demo.train_vae.

Flow matching on latents of procedural clips: x = (1 - sigma) clean + sigma noise, the model predicts noise - clean. A
second process, on a GPU of its own where there is one, renders and encodes new clips until the training ends: on a few
hundred clips, seen again and again, objects lose their outlines. Three sizes are mixed, since the progressive sampler's
early stages run on smaller latents; the first part of the time goes mostly to the small ones, where a step sees four
times as many clips. Cells that the object covers count more, since it fills a tenth of the picture and holds most of
what a prompt says. Words of the prompt are left out at random, and whole prompts; in the last part the target is moved
away from what the model predicts without the prompt, so that one pass per step samples as two with guidance would.
"""

import argparse
import copy
import json
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from demo.clip_stream import ClipPool, ClipStream
from demo.prompts import SLOTS, TEXT_DIM
from demo.wan_modules import WanTransformer

MODEL = {"dim": 256, "ffn_dim": 1024, "num_layers": 6, "text_dim": TEXT_DIM}
TRAIN_SHIFT = 4.0  # of the sigma schedule in training; sampling uses 8, with its steps at high noise too
EARLY_MIX, LATE_MIX = (0.10, 0.20, 0.70), (0.70, 0.15, 0.15)  # share of training steps per size
EARLY = 0.4  # of the time, until the mix changes
GUIDANCE = 0.35  # of (prompted - unprompted), added to the target; at convergence guidance of 1 / (1 - 0.35) = 1.5


def batch_of(pool: ClipPool, batch: int, generator: torch.Generator):
    """Random latents, their prompts with words left out, sigmas, noise, cell weights."""
    latents, prompts, weights = pool.draw(batch, generator)
    device = latents.device
    drop_word = torch.rand(batch, len(SLOTS), generator=generator, device=device) < 0.04
    drop_all = torch.rand(batch, 1, generator=generator, device=device) < 0.1
    context = prompts * ~(drop_word | drop_all)[..., None]
    u = torch.rand(batch, generator=generator, device=device)
    sigma = TRAIN_SHIFT * u / (1 + (TRAIN_SHIFT - 1) * u)
    clean = latents.float()
    noise = torch.randn(clean.shape, generator=generator, device=device)
    return clean, context, sigma, noise, weights.float()


def optimizers(model: WanTransformer, device: str) -> list[tuple[torch.optim.Optimizer, float]]:
    """Muon for the matrices of the blocks, AdamW for all else, each with its peak learning rate."""
    matrices = [p for p in model.blocks.parameters() if p.dim() == 2]
    taken = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in taken]
    groups = [
        {"params": [p for p in rest if p.dim() > 1], "weight_decay": 0.01},
        {"params": [p for p in rest if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return [
        (torch.optim.Muon(matrices, lr=1, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"), 1.5e-3),
        (torch.optim.AdamW(groups, lr=1, betas=(0.9, 0.98), fused=device == "cuda"), 9e-4),
    ]


def train(
    stream: ClipStream, seconds: float, batch: int, seed: int, device: str, start_from: Path | None, guided_from: float
) -> WanTransformer:
    torch.manual_seed(seed)
    generator = torch.Generator(device).manual_seed(seed)
    model = WanTransformer(**MODEL)
    if start_from:
        model.load_state_dict({k: v.float() for k, v in load_file(start_from).items()})
    model.to(device)
    average = copy.deepcopy(model).requires_grad_(False)
    stepped = optimizers(model, device)
    if device == "cuda":
        for block in model.blocks:
            block.compile(dynamic=False)
    picker = torch.Generator().manual_seed(seed)
    start, step, done, smooth = time.perf_counter(), 0, 0.0, None
    while done < 1:
        done = min((time.perf_counter() - start) / seconds, 1.0)
        for optimizer, peak in stepped:
            for group in optimizer.param_groups:
                group["lr"] = peak * min(1, (step + 1) / 200) * (1e-3 + (1 - done) ** 0.8)
        mix = EARLY_MIX if done < EARLY else LATE_MIX
        size = int(torch.multinomial(torch.tensor(mix), 1, generator=picker))
        clean, context, sigma, noise, weight = batch_of(stream.pools[size], batch << size, generator)
        target = noise - clean
        noisy = clean + sigma.view(-1, 1, 1, 1, 1) * target
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            predicted = model(noisy, sigma * 1000, context).float()
            if done >= guided_from:
                # with gradients that nobody uses: without them, every block would compile once more per size
                free = model(noisy, sigma * 1000, torch.zeros_like(context)).float()
                target = target + GUIDANCE * (predicted - free).detach()
        error = (predicted - target) ** 2
        for optimizer, _ in stepped:
            optimizer.zero_grad(set_to_none=True)
        (error * weight).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, _ in stepped:
            optimizer.step()
        with torch.no_grad():
            keep = min(0.999, (step + 1) / (step + 10))
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep)
        if step % 10 == 0:
            stream.refresh()
        if step % 50 == 0:
            value = error.detach().mean().item()
            smooth = value if smooth is None else smooth * 0.8 + value * 0.2
            if step % 250 == 0:
                made = ", ".join(str(pool.made) for pool in stream.pools)
                seconds_gone = time.perf_counter() - start
                print(f"dit step {step} {seconds_gone:.0f} s loss {smooth:.4f}, clips made {made}", flush=True)
        step += 1
    print(f"dit: {step} steps, loss {smooth:.4f}", flush=True)
    return average


def save(model: WanTransformer, path: Path) -> None:
    """bf16, with the metadata that ComfyUI's loader reads the text width from."""
    config = {"transformer": {"num_heads": MODEL["dim"] // 128, "text_dim": TEXT_DIM}}
    state = {name: value.to(torch.bfloat16).contiguous().cpu() for name, value in model.state_dict().items()}
    save_file(state, path, metadata={"config": json.dumps(config)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300, help="of training")
    parser.add_argument("--clips", type=int, default=64, help="of every size, before training starts")
    parser.add_argument("--batch", type=int, default=8, help="at full size; twice and four times as many at the others")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--continue-from", type=Path, help="a checkpoint to go on from")
    parser.add_argument(
        "--guided-from", type=float, default=0.7, help="share of the time after which targets are guided; 0 to go on so"
    )
    parser.add_argument("--output", type=Path, default=Path("demo/weights"))
    a = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    stream = ClipStream(a.output, device, a.seed)
    try:
        stream.wait_for(a.clips)
        model = train(stream, a.seconds, a.batch, a.seed, device, a.continue_from, a.guided_from)
    finally:
        stream.close()
    save(model, a.output / "jenga_demo_dit.safetensors")


if __name__ == "__main__":
    main()

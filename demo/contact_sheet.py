"""Eight prompts, five frames each, with their text: `python -m demo.contact_sheet`, to look at what was learnt."""

import argparse
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import load_file

from demo import prompts
from demo.clip_stream import load_vae
from demo.train_dit import MODEL
from demo.train_vae import FORMAT_MEAN, FORMAT_STD, SIZES
from demo.wan_modules import WanTransformer

PROMPTS = (
    "a red striped ball bounces over a checker floor, camera pans left",
    "a yellow dotted ball rolls over the dunes, camera still",
    "a blue plain star circles in the sky, camera pans right",
    "a white plain ring swings in the night, camera still",
    "a green striped cube rolls over a checker floor, camera still",
    "a purple dotted star rises in the night, camera pans left",
    "an orange plain ball swings in the sky, camera pans left",
    "a cyan striped ring bounces over the dunes, camera pans right",
)
FRAMES = (0, 12, 24, 36, 48)


@torch.no_grad()
def sample(
    model: WanTransformer, text: str, *, size: int, steps: int, shift: float, cfg: float, seed: int, device: str
):
    """Euler from noise: latent [1, 16, 13, h, w] in the format's units."""
    height, width = SIZES[size]
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 16, 13, height // 8, width // 8, generator=generator).to(device)
    u = torch.linspace(1, 0, steps + 1)
    sigmas = shift * u / (1 + (shift - 1) * u)
    context, null = (prompts.encode(t)[0].to(device) for t in (text, ""))
    for now, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        timestep = now.to(device).reshape(1) * 1000
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            velocity = model(x, timestep, context).float()
            if cfg != 1:
                free = model(x, timestep, null).float()
                velocity = free + cfg * (velocity - free)
        x = x + (after - now).to(device) * velocity
    mean, std = (torch.tensor(v, device=device).view(1, -1, 1, 1, 1) for v in (FORMAT_MEAN, FORMAT_STD))
    return x * std + mean


def sheet(rows: list[tuple[str, torch.Tensor]]) -> Image.Image:
    """(text, clip [3, F, H, W] in -1..1) per row -> one picture."""
    width, height, band = 256, 160, 20
    page = Image.new("RGB", (width * len(FRAMES), (height + band) * len(rows)), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=13)
    for row, (text, clip) in enumerate(rows):
        top = row * (height + band)
        draw.text((4, top + 2), text, fill="black", font=font)
        for column, frame in enumerate(FRAMES):
            pixels = ((clip[:, frame].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
            page.paste(Image.fromarray(pixels).resize((width, height), Image.LANCZOS), (column * width, top + band))
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=Path("demo/weights"))
    parser.add_argument("--output", type=Path, default=Path("demo/contact_sheet.jpg"))
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--shift", type=float, default=8.0)
    parser.add_argument("--cfg", type=float, default=1.0)
    parser.add_argument("--size", type=int, default=0, help="0: full, 1: three quarters, 2: half")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--prompts", type=int, default=len(PROMPTS), help="only the first so many")
    a = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = WanTransformer(**MODEL)
    model.load_state_dict({k: v.float() for k, v in load_file(a.weights / "jenga_demo_dit.safetensors").items()})
    model.to(device).eval()
    vae = load_vae(a.weights, device)
    rows = []
    for text in PROMPTS[: a.prompts]:
        options = {"size": a.size, "steps": a.steps, "shift": a.shift, "cfg": a.cfg, "seed": a.seed}
        latent = sample(model, text, **options, device=device)
        with torch.no_grad():
            rows.append((text, vae.decode(latent)[0].float()))
    sheet(rows).save(a.output, quality=88)


if __name__ == "__main__":
    main()

"""Procedural clips for training the demo model: one textured, shaded shape moves over a ground while the camera pans.

Everything is a function of the pixel's world coordinates and of time, so that a clip can be rendered at any size and a
batch of clips in one go on a GPU. World units: the picture is 1 high, its centre is (0, 0), y points down.
"""

import math
from dataclasses import dataclass

import torch

from demo.prompts import SCALE, SLOTS, TEXT_DIM

PALETTE = {
    "red": (0.90, 0.16, 0.16),
    "orange": (0.98, 0.55, 0.12),
    "yellow": (0.97, 0.87, 0.20),
    "green": (0.18, 0.72, 0.28),
    "cyan": (0.15, 0.80, 0.85),
    "blue": (0.16, 0.32, 0.92),
    "purple": (0.60, 0.22, 0.82),
    "white": (0.95, 0.95, 0.95),
}


def sample(batch: int, generator: torch.Generator, device) -> dict[str, torch.Tensor]:
    """Scene parameters: a word index per slot and the continuous ones."""
    scene = {
        slot: torch.randint(len(words), (batch,), generator=generator, device=device) for slot, words in SLOTS.items()
    }
    for name in ("phase", "size", "x", "shade", "hue", "spin"):
        scene[name] = torch.rand(batch, generator=generator, device=device)
    return scene


def encode(scene: dict[str, torch.Tensor], keep: torch.Tensor | None = None) -> torch.Tensor:
    """[B, slots, TEXT_DIM] as prompts.encode makes it; keep [B, slots] bool drops words."""
    rows, base = [], 0
    for slot, words in SLOTS.items():
        rows.append(torch.nn.functional.one_hot(scene[slot] + base, TEXT_DIM).float() * SCALE)
        base += len(words)
    out = torch.stack(rows, 1)
    return out if keep is None else out * keep[..., None]


def _smooth(distance, pixel):
    return (0.5 - distance / pixel).clamp(0, 1)


FRAMES = 49


@dataclass(frozen=True)
class _Object:
    """The moving object as a pixel sees it, all [B, F, H, W] or [B, F, 1, 1]; u and w turn with it, in its radii."""

    cx: torch.Tensor
    cy: torch.Tensor
    dx: torch.Tensor
    dy: torch.Tensor
    u: torch.Tensor
    w: torch.Tensor
    radius: torch.Tensor
    coverage: torch.Tensor  # 0..1


def _column(value):
    return value.view(-1, 1, 1, 1)


def _pan(scene):
    return _column(torch.tensor([0.0, -0.5, 0.5], device=scene["x"].device)[scene["camera"]])


def _axes(height, width, window, every, device):
    """time, y and x of the window's pixels, each shaped to broadcast to [B, F, H, W]."""
    first, frames, top, rows, left, columns = window or (0, FRAMES, 0, height, 0, width)
    time = torch.linspace(0, 1, FRAMES, device=device)[first : first + frames : every].view(1, -1, 1, 1)
    y = ((torch.arange(top, top + rows, device=device) + 0.5) / height - 0.5).view(1, 1, -1, 1)
    x = ((torch.arange(left, left + columns, device=device) + 0.5 - width / 2) / height).view(1, 1, 1, -1)
    return time, y, x


def _object(scene, time, y, x, height, width) -> _Object:
    pixel, aspect = 1.0 / height, width / height
    phase = 2 * math.pi * (time + _column(scene["phase"]))
    radius = 0.20 + 0.05 * _column(scene["size"])
    x0 = (_column(scene["x"]) - 0.5) * (aspect - 1.0)
    drift = -_pan(scene) * (time - 0.5) * 0.6  # it follows the pan, more slowly
    motion = _column(scene["motion"])
    zero = torch.zeros_like(phase)
    # At most about 8 pixels a frame at full size: one latent frame stands for four of them.
    bounce_y = 0.38 - radius - 0.30 * torch.sin(0.6 * phase).abs()
    cx = torch.where(motion == 1, 0.2 * torch.cos(0.8 * phase), zero)
    cx = torch.where(motion == 2, 0.32 * torch.sin(0.6 * phase), cx)
    way = 0.5 * (aspect - 2.2 * radius)  # of a roll, to the left or to the right of the middle
    cx = torch.where(motion == 4, way * ((0.7 * time + 2 * _column(scene["phase"])) % 2 - 1).abs() * 2 - way, cx)
    cx = torch.where(motion == 4, cx, cx + x0 * 0.6)
    cy = torch.where(motion == 0, bounce_y, zero)
    cy = torch.where(motion == 1, 0.2 * torch.sin(0.8 * phase), cy)
    cy = torch.where(motion == 2, -0.08 + 0.12 * torch.cos(0.6 * phase) ** 2, cy)
    cy = torch.where(motion == 3, 0.22 - 0.40 * time + 0.06 * (_column(scene["phase"]) - 0.5), cy)
    cy = torch.where(motion == 4, 0.36 - radius + 0 * phase, cy)
    cx = cx + torch.where(motion == 4, zero, drift)
    dx, dy = x - cx, y - cy

    angle = (_column(scene["spin"]) - 0.5) + torch.where(motion == 4, cx / radius, (time - 0.5) * math.pi * 0.5)
    cos, sin = torch.cos(angle), torch.sin(angle)
    u, w = (dx * cos + dy * sin) / radius, (-dx * sin + dy * cos) / radius
    shape = _column(scene["shape"])
    r = (u * u + w * w).sqrt()
    theta = torch.atan2(w, u)
    cube = torch.maximum(u.abs(), w.abs()) - 0.86
    star = r - (0.74 + 0.26 * torch.cos(5 * theta))
    ring = (r - 0.74).abs() - 0.26
    distance = torch.where(shape == 0, r - 1, torch.where(shape == 1, cube, torch.where(shape == 2, star * 0.8, ring)))
    return _Object(cx, cy, dx, dy, u, w, radius, _smooth(distance * radius, pixel * 1.5))


def object_share(scene, height: int, width: int) -> torch.Tensor:
    """How much of each cell of a height x width picture the object covers: [B, F, H, W] in 0..1."""
    time, y, x = _axes(height, width, None, 1, scene["x"].device)
    return _object(scene, time, y, x, height, width).coverage


def render(scene, height: int, width: int, window=None, every: int = 1) -> torch.Tensor:
    """Scenes -> clips [B, 3, F, H, W] in 0..1 (H and W even after the window).

    window: (first frame, frames, top, rows, left, columns) of the whole clip of FRAMES x height x width; None: all.
    every: only every so many frames of it.
    """
    time, y, x = _axes(height, width, window, every, scene["x"].device)
    pixel = 1.0 / height
    world_x = x + _pan(scene) * (time - 0.5) + _column(scene["hue"]) * 2
    picture = _ground(scene, world_x, y, pixel)
    thing = _object(scene, time, y, x, height, width)
    dx, dy, u, w, radius = thing.dx, thing.dy, thing.u, thing.w, thing.radius

    # soft shadow on the ground under the object
    has_floor = (_column(scene["ground"]) == 1) | (_column(scene["ground"]) == 2)
    height_above = (0.40 - thing.cy - radius).clamp(min=0)
    shadow = (
        torch.exp(-((dx**2) / (1.2 * radius) ** 2 + (y - 0.41) ** 2 / 0.035**2))
        * (0.55 - height_above).clamp(min=0.12)
        * has_floor
    )
    picture = picture * (1 - shadow.unsqueeze(1))

    palette = torch.tensor([PALETTE[name] for name in SLOTS["colour"]], device=x.device)
    colour = palette[scene["colour"]].view(-1, 3, 1, 1, 1)
    stripe = torch.sin(u * 9.0)
    dots = torch.cos(u * 8.0) * torch.cos(w * 8.0) - 0.35
    texture = _column(scene["texture"])
    mark = torch.where(texture == 1, stripe, dots)
    mark = (mark / (9.0 * pixel / radius) + 0.5).clamp(0, 1) * (texture > 0)
    body = colour * (1 - 0.62 * mark.unsqueeze(1)) + 0.06 * mark.unsqueeze(1)
    light = (1.0 - 0.34 * (dx + dy) / radius - 0.18 * (dx**2 + dy**2) / radius**2).clamp(0.35, 1.3).unsqueeze(1)
    gloss = torch.exp(-(((dx + 0.38 * radius) ** 2 + (dy + 0.38 * radius) ** 2) / (0.22 * radius) ** 2)).unsqueeze(1)
    body = (body * light + 0.45 * gloss * (_column(scene["shape"]) == 0).unsqueeze(1)).clamp(0, 1)
    alpha = thing.coverage.unsqueeze(1)
    return picture * (1 - alpha) + body * alpha


def _ground(scene, x, y, pixel):
    b = scene["x"].shape[0]
    shade = _column(scene["shade"]).unsqueeze(1)
    device = x.device

    def rgb(*c):
        return torch.tensor(c, device=device).view(1, 3, 1, 1, 1)

    y1 = y.unsqueeze(1)
    down = (y1 + 0.5).clamp(0, 1)
    # sky with soft clouds
    cloud = torch.sin(x * 3.1) * torch.sin(y * 7 + torch.sin(x * 2.3)) + 0.5 * torch.sin(x * 6.7 + 1.3) * torch.sin(
        y * 13
    )
    cloud = torch.sigmoid(cloud * 4 - 1.5).unsqueeze(1)
    sky = rgb(0.30, 0.55, 0.92) * (1 - down) + rgb(0.75, 0.88, 0.98) * down
    sky = sky * (1 - 0.75 * cloud) + 0.75 * cloud * rgb(1.0, 1.0, 1.0)
    # checker floor in perspective under a plain wall
    depth = (y + 0.5 - 0.52).clamp(min=0.02)
    fx, fz = x / depth * 0.35, 0.4 / depth
    width = (pixel / depth * 1.2).clamp(min=0.02)
    sx = (torch.sin(fx * math.pi) / (math.pi * width)).clamp(-1, 1)
    sz = (torch.sin(fz * math.pi) / (math.pi * width * 2.0)).clamp(-1, 1)
    check = (0.5 + 0.5 * sx * sz).unsqueeze(1)
    fog = torch.exp(-0.09 / depth).unsqueeze(1)
    floor = (rgb(0.36, 0.38, 0.45) * (1 - check) + rgb(0.80, 0.79, 0.76) * check) * fog + (1 - fog) * rgb(
        0.55, 0.56, 0.6
    )
    wall = rgb(0.62, 0.66, 0.74) * (0.75 + 0.4 * down) * (0.85 + 0.15 * torch.cos(x * 4).unsqueeze(1))
    edge = ((y - 0.02) / pixel + 0.5).clamp(0, 1).unsqueeze(1)
    checker = wall * (1 - edge) + floor * edge
    # dunes: layers of sand hills under a warm sky
    dunes = (rgb(0.98, 0.80, 0.55) * (1 - down) + rgb(0.99, 0.90, 0.72) * down).expand(
        b, 3, x.shape[1], y.shape[2], x.shape[3]
    )
    for layer, (level, speed, tone) in enumerate(((0.02, 0.5, 0.93), (0.14, 0.75, 0.82), (0.28, 1.0, 0.70))):
        hill = (
            level
            + 0.05 * torch.sin(x * (2.1 + layer) * speed + layer * 2.0)
            + 0.02 * torch.sin(x * 5.3 * speed + layer)
        )
        cover = ((y - hill) / (pixel * 1.5) + 0.5).clamp(0, 1).unsqueeze(1)
        sand = rgb(0.92, 0.70, 0.42) * tone * (1.0 - 0.35 * (y - hill).clamp(0, 1)).unsqueeze(1)
        dunes = dunes * (1 - cover) + sand * cover
    # night: dark gradient with stars on a jittered lattice
    gx, gy = torch.floor(x * 5), torch.floor(y * 5)
    jx = torch.frac(torch.sin(gx * 12.99 + gy * 78.23) * 437.5).abs() * 0.6 + 0.2
    jy = torch.frac(torch.sin(gx * 39.34 + gy * 11.13) * 231.7).abs() * 0.6 + 0.2
    star = torch.exp(-(((x * 5 - gx - jx) ** 2 + (y * 5 - gy - jy) ** 2) / 0.1**2))
    night = rgb(0.03, 0.04, 0.13) * (1 - down) + rgb(0.16, 0.12, 0.32) * down
    night = (night + 0.9 * star.unsqueeze(1)).clamp(0, 1)
    ground = _column(scene["ground"]).unsqueeze(1)
    picture = torch.where(ground == 0, sky, torch.where(ground == 1, checker, torch.where(ground == 2, dunes, night)))
    return picture * (0.9 + 0.1 * shade)

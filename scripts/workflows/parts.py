"""What several workflows share: loaders with the file names of the Comfy-Org repositories, prompts, outputs."""

from dataclasses import dataclass

from scripts.graph import Column, Node

# Height of what a node shows once it runs.
STATUS_ROOM = 70  # a Jenga node's line of text
LATENT_ROOM = 236  # a sampler's picture of the latent
WAN_NEGATIVE = (
    "overexposed, blurred details, static picture, subtitles, grey, worst quality, JPEG artefacts, deformed limbs, "
    "fused fingers, walking backwards"
)
WAN_TEXT_ENCODER = "umt5_xxl_fp8_e4m3fn_scaled.safetensors"
WAN_VAE = "wan_2.1_vae.safetensors"


@dataclass(frozen=True)
class Card:
    """A thumbnail drawn by scripts/thumbnails.py: a title, a line under it, and what the workflow does with steps."""

    title: str
    line: str
    # (share of the steps, scale, kept share), in order: drawn as a staircase
    stages: tuple[tuple[float, float, float], ...]


def files_note(files: dict[str, tuple[str, ...]], repositories: tuple[str, ...]) -> str:
    """Markdown: which file goes into which folder of ComfyUI's `models`, and whose repositories carry them."""
    rows = "\n".join(f"| `{name}` | `models/{folder}` |" for folder, names in files.items() for name in names)
    return f"**Files** (from {' and '.join(repositories)})\n\n| file | folder |\n|---|---|\n{rows}"


@dataclass
class Wan:
    """Text encoder and VAE of Wan, with both prompts encoded."""

    vae: Node
    positive: Node
    negative: Node

    @classmethod
    def add(cls, column: Column, prompt: str) -> "Wan":
        clip = column.add("CLIPLoader", clip_name=WAN_TEXT_ENCODER, type="wan")
        vae = column.add("VAELoader", vae_name=WAN_VAE)
        positive = column.add("CLIPTextEncode", "Prompt", clip=clip[0], text=prompt)
        negative = column.add("CLIPTextEncode", "Negative prompt", clip=clip[0], text=WAN_NEGATIVE)
        return cls(vae, positive, negative)


def report(column: Column, model: Node, latent: Node) -> Node:
    """Jenga Report and its text; the node's first output is the latent, its third the kept-share picture."""
    node = column.add("JengaReport", model=model[0], latent=latent[0])
    preview_text(column, "Report", 420, node[1])
    return node


def preview_text(column: Column, title: str, height: int, source) -> Node:
    return column.add("PreviewAny", title, height, source=source)


def save_video(column: Column, images, fps: float, prefix: str, room: int = 300) -> None:
    """A video of a batch of images, with room for its player."""
    video = column.add("CreateVideo", images=images, fps=fps)
    column.add("SaveVideo", room=room, video=video[0], filename_prefix=prefix)

"""What several workflows share: loaders with the file names of the Comfy-Org repositories, prompts, outputs."""

from dataclasses import dataclass

from scripts.graph import Column, Node

# Height of what a node shows once it runs.
STATUS_ROOM = 70  # a Jenga node's line of text
LATENT_ROOM = 236  # a sampler's picture of the latent

WAN_21 = "Comfy-Org/Wan_2.1_ComfyUI_repackaged"
WAN_22 = "Comfy-Org/Wan_2.2_ComfyUI_Repackaged"
WAN_FILES = {"text_encoders": "umt5_xxl_fp8_e4m3fn_scaled.safetensors", "vae": "wan_2.1_vae.safetensors"}
WAN_PROMPT = "a fox runs through a snowy forest, branches in the foreground, morning light, the camera follows it"
WAN_NEGATIVE = (
    "overexposed, blurred details, static picture, subtitles, grey, worst quality, JPEG artefacts, deformed limbs, "
    "fused fingers, walking backwards"
)


def note(text: str, repository: str, *files: dict[str, str]) -> str:
    """A workflow's note: what it does, and which file of a repository goes into which folder of ComfyUI's `models`."""
    lines = [f"* `{name}` → `models/{folder}`" for group in files for folder, name in group.items()]
    return f"{text}\n\n**Files**, all in *{repository}*:\n\n" + "\n".join(lines)


@dataclass
class Wan:
    """Text encoder and VAE of Wan, with both prompts encoded."""

    vae: Node
    positive: Node
    negative: Node

    @classmethod
    def add(cls, loaders: Column, prompts: Column, prompt: str = WAN_PROMPT) -> "Wan":
        clip = loaders.add("CLIPLoader", clip_name=WAN_FILES["text_encoders"], type="wan")
        vae = loaders.add("VAELoader", vae_name=WAN_FILES["vae"])
        positive = prompts.add("CLIPTextEncode", "Prompt", clip=clip[0], text=prompt)
        negative = prompts.add("CLIPTextEncode", "Negative prompt", clip=clip[0], text=WAN_NEGATIVE)
        return cls(vae, positive, negative)


def report(column: Column, model: Node, sampler: Node, of: str = "", output: int = 0) -> Node:
    """Jenga Report with its text and its picture; the node's first output is the latent that came in.

    of: whose report it is, for the titles; output: which output of the sampler is the latent.
    """
    suffix = f", {of}" if of else ""
    node = column.add("JengaReport", f"Jenga Report{suffix}", model=model[0], latent=sampler[output])
    preview_text(column, f"Report{suffix}", 240, node[1])
    column.add("PreviewImage", f"Kept share, layer × step{suffix}", 270, images=node[2])
    return node


def preview_text(column: Column, title: str, room: int, source) -> Node:
    return column.add("PreviewAny", title, room, source=source)


def save_video(column: Column, images, fps: float, prefix: str, room: int = 300) -> None:
    """A video of a batch of images, with room for its player."""
    video = column.add("CreateVideo", images=images, fps=fps)
    column.add("SaveVideo", room=room, video=video[0], filename_prefix=prefix)

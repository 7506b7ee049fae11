"""The rows of docs/models.md and why a cell of them is empty; scripts/write_models.py fills the others."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """One host. rows: what its tests call a model -> its title. empty: (row, column) -> why no test can write that
    cell; "" stands for every row, or for every column.
    """

    columns: tuple[str, ...]
    rows: dict[str, str]
    empty: dict[tuple[str, str], str]


_COLUMNS = (
    "sequence",
    "carved",
    "all blocks kept",
    "with anchors",
    "stages",
    "conditions that follow",
    "guidance",
    "compile",
)
_ROWS = {
    "wan21-t2v": "Wan 2.1, 2.2 text to video",
    "wan21-i2v": "Wan 2.1 image to video",
    "wan22-14b-i2v": "Wan 2.2 14B image to video",
    "wan22-5b-t2v": "Wan 2.2 5B text to video",
    "wan22-5b-i2v": "Wan 2.2 5B image to video",
    "wan-vace": "Wan VACE",
    "wan-fun": "Wan Fun Control with a reference",
    "wan-phantom": "Wan Phantom subjects",
    "wan-camera": "Wan Fun Camera",
    "wan-s2v": "Wan 2.2 S2V",
    "wan-humo": "HuMo",
    "wan-scail": "SCAIL",
    "wan-scail2": "SCAIL 2",
    "wan-animate": "Wan 2.2 Animate",
    "wan-dancer": "Wan Dancer",
    "wan-causal": "Wan, autoregressive",
    "hunyuan-t2v": "HunyuanVideo text to video",
    "hunyuan-i2v-concat": "HunyuanVideo image to video",
    "hunyuan-i2v-replace": "HunyuanVideo image to video, frame replaced",
    "hunyuan-reference": "HunyuanVideo with a reference",
    "hunyuan15": "HunyuanVideo 1.5 text to video",
    "hunyuan15-i2v": "HunyuanVideo 1.5 image to video",
    "ltxv": "LTX-Video",
    "ltxv-guide": "LTX-Video with a guide",
    "ltxv-strength": "LTX-Video with a guide of strength 0.6",
    "ltx2": "LTX-2 with audio",
    "cogvideox": "CogVideoX 1.0",
    "cogvideox15": "CogVideoX 1.5",
    "cogvideox-i2v": "CogVideoX image to video",
    "kandinsky5": "Kandinsky 5 text to video",
    "kandinsky5-i2v": "Kandinsky 5 image to video",
    "cosmos1": "Cosmos 1",
    "predict2": "Cosmos Predict2",
    "mochi": "Mochi",
    "minimax-h3": "MiniMax H3",
    "minimax-h3-keyframe": "MiniMax H3 with a keyframe",
    "minimax-h3-reference": "MiniMax H3 with references",
    "a model of no table": "a made-up model of no table",
}
_EMPTY = {
    ("wan-causal", ""): "attends what it kept of earlier frames: dense, and says so",
    ("", "conditions that follow"): "takes none of the clip's size",
    ("", "compile"): "not run: its blocks are those of a row that was",
    ("hunyuan-reference", "guidance"): "ComfyUI's own reference takes no batch of two",
    ("ltxv-guide", "stages"): "guides lie in pixels of the full size: full size",
    ("ltxv-strength", "stages"): "guides lie in pixels of the full size: full size",
    ("a model of no table", "compile"): "not run",
    ("a model of no table", "stages"): "one size: nobody knows its conditions",
}
COMFYUI = Table(_COLUMNS, _ROWS, _EMPTY)

DIFFUSERS = Table(
    ("sequence", "carved", "all blocks kept", "with anchors", "conditions", "guidance", "compile", "its pipeline"),
    {
        "wan": "Wan text to video",
        "wan_image": "Wan image to video",
        "wan_vace": "Wan VACE",
        "wan_animate": "Wan Animate",
        "skyreels": "SkyReels V2",
        "hunyuan_video": "HunyuanVideo",
        "hunyuan_video15": "HunyuanVideo 1.5",
        "ltx": "LTX-Video",
        "ltx2": "LTX-2 with audio",
        "cogvideox": "CogVideoX 1.0",
        "cogvideox15": "CogVideoX 1.5 image to video",
        "kandinsky5": "Kandinsky 5",
        "cosmos": "Cosmos",
        "mochi": "Mochi",
        "chronoedit": "ChronoEdit",
        "motif_video": "Motif-Video",
        "allegro": "Allegro",
        "easyanimate": "EasyAnimate",
        "easyanimate_control": "EasyAnimate with a control video, inpainting",
        "minimax_h3": "MiniMax H3",
    },
    {
        ("", "conditions"): "none beside the text",
        ("", "its pipeline"): "the tests' own loop alone",
    },
)

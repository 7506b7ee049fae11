"""The settings that the frontier is searched over: stages, kept share with anchors, step reuse, each with each. And a
few of them in every precision, for benchmarks/clip_precision.py.
"""

import itertools
from dataclasses import dataclass, replace

from jenga.carving.quantise import PRECISIONS
from jenga.sampling import preset_words
from jenga.sampling.presets import FIRST_STEP, ROWS

# Scales and switch points as the Progressive Resolution Sampler takes them; "full size" has one stage.
STAGES = {
    "full size": ("1.0", ""),
    "0.75 until .25": ("0.75, 1.0", "0.25"),
    "0.75 until .5": ("0.75, 1.0", "0.5"),
    "0.5 until .3, 0.75 until .5": ("0.5, 0.75, 1.0", "0.3, 0.5"),
    "0.5 until .25": ("0.5, 1.0", "0.25"),
    "0.5 until .15, 0.75 until .25": ("0.5, 0.75, 1.0", "0.15, 0.25"),
}
COARSE = ("full size", "0.75 until .25", "0.75 until .5", "0.5 until .3, 0.75 until .5")
# Kept share, and the anchors' distance as Jenga Attention takes it.
CARVING = ((0.2, "off"), (0.1, "off"), (0.05, "16"), (0.05, "8"), (0.1, "8"), (0.1, "4"))
REUSE = (0.0, 0.1, 0.2)  # threshold of adaptive reuse; 0 computes every step
# Stages, kept share, distance, threshold. Between near-lossless and adaptive reuse alone; between high and balanced;
# faster than fast; for schedules that have no room for more anchors than one; for 4 to 8 steps, all of them computed.
FINER = (("full size",), (0.05, 0.1, 0.2), ("2", "3", "4"), (0.05, 0.07, 0.1, 0.2))
BETWEEN = (("full size",), (0.05, 0.1), ("4", "6", "8", "12", FIRST_STEP), (0.1, 0.15, 0.2, 0.3, 0.4))
FASTER = (COARSE[1:], (0.05, 0.1), ("16", FIRST_STEP), (0.2, 0.3, 0.4, 0.6, 0.8))
SHORT = (("full size",), (0.05, 0.1, 0.2), (FIRST_STEP,), REUSE)
FOR_FEW = ("full size", "0.75 until .25", "0.5 until .25", "0.5 until .15, 0.75 until .25")
SHORTEST = (FOR_FEW, (0.1, 0.13, 0.15, 0.18, 0.2), ("off",), (0.0,))
PREFIX, PRECISE_PREFIX = "search: ", "precision: "


@dataclass(frozen=True)
class Setting:
    """One point. stages: a key of STAGES; the others as above."""

    stages: str
    kept: float
    distance: str
    threshold: float
    precision: str = "auto"

    @property
    def name(self) -> str:
        distances = {"off": "", FIRST_STEP: ", first step dense"}
        anchors = distances.get(self.distance, f", anchors {self.distance}")
        reuse = f", reuse {self.threshold:g}" if self.threshold else ""
        prefix, suffix = (PREFIX, "") if self.precision == "auto" else (PRECISE_PREFIX, f", {self.precision}")
        return f"{prefix}{self.stages}, kept {self.kept:.0%}{anchors}{reuse}{suffix}"

    @property
    def attention(self) -> dict:
        """Inputs of Jenga Attention."""
        return {"density": self.kept, "anchor_distance": self.distance, "precision": self.precision}

    @property
    def sampler(self) -> dict:
        """Inputs of the Progressive Resolution Sampler."""
        scales, switches = STAGES[self.stages]
        reuse = {"step_reuse": "adaptive", "reuse_threshold": self.threshold} if self.threshold else {}
        return {"scales": scales, "switch_points": switches, "shift_ratios": "1.0", "step_reuse": "off", **reuse}


_STAGES_BY_HAND = {by_hand: name for name, by_hand in STAGES.items()}
# The positions of the dial of the Jenga node, which are points of the search.
DIAL = {
    row.name: Setting(
        _STAGES_BY_HAND[preset_words.by_hand(row.stages)], row.dial.share, row.dial.anchor_distance, row.dial.threshold
    )
    for row in ROWS
    if row.dial
}
_COARSE = (Setting(stages, *carving, reuse) for stages, carving, reuse in itertools.product(COARSE, CARVING, REUSE))
_FINE = (Setting(*one) for rules in (FINER, BETWEEN, FASTER, SHORT, SHORTEST) for one in itertools.product(*rules))
SPACE = tuple(dict.fromkeys((*_COARSE, *_FINE)))

# Carving alone, with anchors, and the dial's positions that carve most, by setting and precision.
_PRECISE = (Setting("full size", 0.2, "off", 0.0), Setting("full size", 0.1, "4", 0.0), DIAL["balanced"], DIAL["fast"])
PRECISE = {setting: {name: replace(setting, precision=name) for name in PRECISIONS} for setting in _PRECISE}

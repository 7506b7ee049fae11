"""The demo model's language: prompts over a small vocabulary, encoded without a text encoder.

A prompt names one word of each slot of SLOTS, in any order and with any filler words around them:
"a red striped ball bounces over a checker floor, camera pans left". A slot that is not named takes no word, and the
model was trained with words left out too. encode() makes one row per slot: the one-hot of its word, scaled to unit
variance per channel; a missing word is a row of zeros, and so is every row of the empty prompt.
"""

import re

import torch

SLOTS = {
    "colour": ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "white"),
    "texture": ("plain", "striped", "dotted"),
    "shape": ("ball", "cube", "star", "ring"),
    "motion": ("bounces", "circles", "swings", "rises", "rolls"),
    "ground": ("sky", "checker", "dunes", "night"),
    "camera": ("still", "left", "right"),
}
WORDS = tuple(word for words in SLOTS.values() for word in words)
FILLER = frozenset(
    ("a", "an", "the", "on", "over", "in", "of", "at", "and", "with", "camera", "pans", "is", "floor", "to", "under")
)
TEXT_DIM = 64
SCALE = TEXT_DIM**0.5
EXAMPLE = "a red striped ball bounces over a checker floor, camera pans left"
VOCABULARY_HELP = "One word of each: " + "; ".join(f"{slot}: {', '.join(words)}" for slot, words in SLOTS.items())


def parse(text: str) -> tuple[dict[str, str], list[str]]:
    """The word of every slot that the text names (the last one wins), and the words that mean nothing here."""
    chosen, unknown = {}, []
    for word in re.findall(r"[a-z]+", text.lower()):
        slot = next((slot for slot, words in SLOTS.items() if word in words), None)
        if slot:
            chosen[slot] = word
        elif word not in FILLER:
            unknown.append(word)
    return chosen, unknown


def encode(text: str) -> tuple[torch.Tensor, list[str]]:
    """Prompt -> (fp32 [1, number of slots, TEXT_DIM], unknown words)."""
    chosen, unknown = parse(text)
    rows = torch.zeros(1, len(SLOTS), TEXT_DIM)
    for row, slot in enumerate(SLOTS):
        if slot in chosen:
            rows[0, row, WORDS.index(chosen[slot])] = SCALE
    return rows, unknown

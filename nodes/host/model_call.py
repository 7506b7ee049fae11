"""What a model call of ComfyUI is, made once from its arguments by name: a `jenga.runtime.call.ModelCall`."""

import inspect
import math
from dataclasses import dataclass

import torch

from jenga.runtime.call import ModelCall
from jenga.runtime.find_layout import Search
from jenga.runtime.layout import TokenLayout
from jenga.runtime.run import Run, StageState

from . import private_options
from .families import layout_of, patch_of

STAGE_KEY = "jenga_stage"  # transformer_options: the StageState of the run, written by its owner
CALL_KEY = "jenga_call"  # transformer_options of one model call: its ModelCall
APPLY_MODEL = ("x", "t", "c_concat", "c_crossattn", "control", "transformer_options")  # 0.3.64 to 0.30


@dataclass
class Arguments:
    """The arguments of one apply_model call by name, with a shallow copy of its options, free to write."""

    values: dict
    names: tuple[str, ...]
    positional: int
    options: dict

    @classmethod
    def bind(cls, model, args: tuple, kwargs: dict) -> "Arguments":
        names = _parameters(model)
        values = {**dict(zip(names, args, strict=False)), **kwargs}
        values["transformer_options"] = options = dict(values.get("transformer_options") or {})
        return cls(values, names, len(args), options)

    def call(self, executor):
        """The call with the copied options in the place of those that came."""
        by_place = self.names[: self.positional]
        by_name = {name: value for name, value in self.values.items() if name not in by_place}
        return executor(*(self.values[name] for name in by_place), **by_name)


def model_call(model, run: Run, arguments: Arguments) -> ModelCall:
    """The ModelCall of these arguments: the one in the options, where a wrapper further out has made it."""
    options = arguments.options
    known = options.get(CALL_KEY)
    if known is not None:
        return known
    sigma = private_options.sigma_of(options)
    call = ModelCall(
        run.number_passes(private_options.conditionings_of(model, options)),
        run.evaluation,
        _layout(model, arguments.values),
        arguments.values["t"].flatten()[0] if sigma is None else sigma,
        private_options.steps_of(options),
    )
    options[CALL_KEY] = call
    return call


def search_of(model, call: ModelCall, arguments: Arguments) -> Search | None:
    """What the video of a model without a layout is found by; None where the layout is known or there is no video."""
    _, latent = video_of(arguments.values)
    if call.layout is not None or latent.ndim != 5:
        return None
    patch = patch_of(private_options.module_of(model))
    return Search(latent, () if patch is None else (patch,))


def stage_of(options: dict) -> StageState | None:
    """The StageState in transformer_options; None outside a run."""
    return options.get(STAGE_KEY)


def _layout(model, values: dict) -> TokenLayout | None:
    shape, _ = video_of(values)
    return layout_of(private_options.module_of(model), shape, values)


def video_of(values: dict) -> tuple[tuple[int, ...], torch.Tensor]:
    """The shape of the video in a model call's latent, and the video; in a packed latent it is the first part."""
    x, shapes = values["x"], values.get("latent_shapes")
    if not shapes:
        return tuple(x.shape), x
    shape = tuple(shapes[0])
    if tuple(x.shape) == shape:
        return shape, x
    return shape, x.flatten(1)[:, : math.prod(shape[1:])].reshape(-1, *shape[1:])


def _parameters(model) -> tuple[str, ...]:
    """Names of apply_model's arguments by place. One that hides them takes those of ComfyUI 0.30."""
    named = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(type(model).apply_model).parameters.values()
    names = tuple(one.name for one in parameters if one.kind in named)[1:]
    return names if "transformer_options" in names else APPLY_MODEL

"""What other packs do to a model: extra passes, functions that read the schedule, full-size latents, overrides."""

from types import SimpleNamespace

import comfy.model_patcher
import comfy.samplers
import comfy.utils
import torch
from comfy.controlnet import ControlBase
from comfy.ldm.wan.model_multitalk import InfiniteTalkOuterSampleWrapper
from comfy.patcher_extension import CallbacksMP, WrappersMP
from comfy_api.torch_helpers import set_torch_compile_wrapper

from jenga.sampling.resolution import resize

from .patch import Patch

STEPS: list[int] = []  # what ScheduleReader found, and CountingSampler counted; reported by CaptureSteps
OVERRIDE = "optimized_attention_override"


class ExtraPass(Patch):
    """Perturbed-attention guidance: one more pass of the positive conditioning, in which a block's self-attention
    returns its values. before: the pass comes ahead of the usual one, as in guidance that needs its result. until: the
    sigma below which there is none.
    """

    WIDGETS = {"scale": ("FLOAT", {}), "before": ("BOOLEAN", {}), "until": ("FLOAT", {})}

    def change(self, patched, scale, before, until):
        def extra(args, key):
            options = comfy.model_patcher.create_model_options_clone(args["model_options"])
            inner = options["transformer_options"].get(OVERRIDE)

            def values(func, q, k, v, *rest, **kwargs):
                block = (kwargs.get("transformer_options") or {}).get("block_index")
                if q.shape == k.shape and block == 1:
                    return v
                return func(q, k, v, *rest, **kwargs) if inner is None else inner(func, q, k, v, *rest, **kwargs)

            options["transformer_options"][OVERRIDE] = values
            condition = args["conds"][0] if key == "conds" else args["cond"]
            return comfy.samplers.calc_cond_batch(args["model"], [condition], args["input"], args["sigma"], options)[0]

        def behind(args):
            return args["denoised"] + scale * (args["cond_denoised"] - extra(args, "cond"))

        def ahead(args):
            is_on = float(args["sigma"].max()) >= until
            perturbed = extra(args, "conds") if is_on else None
            out = comfy.samplers.calc_cond_batch(
                args["model"], args["conds"], args["input"], args["sigma"], args["model_options"]
            )
            return [out[0] + scale * (out[0] - perturbed), *out[1:]] if is_on else out

        if before:
            patched.set_model_sampler_calc_cond_batch_function(ahead)
        else:
            patched.set_model_sampler_post_cfg_function(behind)


class ScheduleReader(Patch):
    """Guidance by the step: finds its own in sample_sigmas, as CFG-Zero does, and damps the first one."""

    def change(self, patched):
        STEPS.clear()

        def post_cfg(args):
            options = args["model_options"]["transformer_options"]
            sigmas = options["sample_sigmas"]
            found = (sigmas - args["sigma"][0]).abs().argmin()
            STEPS.append(int(found))
            return args["denoised"] * (0.5 if int(found) == 0 else 1.0)

        patched.set_model_sampler_post_cfg_function(post_cfg)


class Knowing(Patch):
    """A model that always predicts one clip, which has no frequency beyond `side` × `side`: at every size the same.
    Audio beside it: always the same too.
    """

    WIDGETS = {"side": ("INT", {})}

    def change(self, patched, side):
        def apply_model(executor, x, *args, **kwargs):
            shapes = kwargs.get("latent_shapes") or [x.shape]
            generator = torch.Generator().manual_seed(3)
            sides = [(*shapes[0][1:-2], side, side), *(shape[1:] for shape in shapes[1:])]
            video, *others = (torch.randn(1, *shape, generator=generator) for shape in sides)
            parts = [
                part.repeat(len(x), *[1] * (part.ndim - 1)) for part in (resize(video, *shapes[0][-2:], "dct"), *others)
            ]
            return comfy.utils.pack_latents(parts)[0] if others else parts[0]

        patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "knowing", apply_model)


class CountingSampler:
    """An Euler sampler that runs so many steps and leaves the rest over, for the sampler behind it."""

    CATEGORY, FUNCTION, RETURN_TYPES = "jenga tests", "make", ("SAMPLER",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"steps": ("INT", {})}}

    def make(self, steps):
        STEPS.clear()

        @torch.no_grad()
        def sample(model, x, sigmas, extra_args=None, callback=None, disable=None):
            for index in range(min(steps, len(sigmas) - 1)):
                denoised = model(x, sigmas[index] * x.new_ones([x.shape[0]]), **(extra_args or {}))
                if callback is not None:
                    callback({"x": x, "i": index, "sigma": sigmas[index], "denoised": denoised})
                x = x + (x - denoised) / sigmas[index] * (sigmas[index + 1] - sigmas[index])
                STEPS.append(index)
            return x

        return (comfy.samplers.KSAMPLER(sample),)


class Sigmas:
    """A schedule by hand: numbers, separated by commas."""

    CATEGORY, FUNCTION, RETURN_TYPES = "jenga tests", "make", ("SIGMAS",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"sigmas": ("STRING", {})}}

    def make(self, sigmas):
        return (torch.tensor([float(sigma) for sigma in sigmas.split(",")]),)


class LookingSampler:
    """A sampler that asks the model once, at whatever sigma, and leaves the latent as it is."""

    CATEGORY, FUNCTION, RETURN_TYPES = "jenga tests", "make", ("SAMPLER",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def make(self):
        @torch.no_grad()
        def sample(model, x, sigmas, extra_args=None, callback=None, disable=None):
            model(x, sigmas[0] * x.new_ones([x.shape[0]]), **(extra_args or {}))
            return x * 0.5  # what ComfyUI makes of it at a last sigma of 1 is its own

        return (comfy.samplers.KSAMPLER(sample),)


class FullSizeLatent(Patch):
    """ComfyUI's own wrapper of InfiniteTalk, without its audio: a full-size latent goes into every step."""

    def change(self, patched):
        latent = torch.randn(1, 16, 1, 24, 24, generator=torch.Generator().manual_seed(8))
        patched.add_wrapper_with_key(
            WrappersMP.OUTER_SAMPLE,
            "infinite_talk_outer_sample",
            InfiniteTalkOuterSampleWrapper(latent, None, is_extend=False),
        )


class FullSizePatch(Patch):
    """A patch of another pack that keeps a mask of the full size as an attribute and multiplies with it."""

    def change(self, patched):
        holder = SimpleNamespace(settings={"masks": [torch.full((1, 1, 24, 24), 0.9)]})

        def model_function(apply_model, args):
            return apply_model(args["input"] * holder.settings["masks"][0], args["timestep"], **args["c"])

        patched.set_model_unet_function_wrapper(model_function)


class StrangerOverride(Patch):
    """An attention override that calls none before it. sparse: it leaves out every second key, from that block on and
    from that sigma down. keyword: one more argument that it passes on.
    """

    WIDGETS = {
        "sparse": ("BOOLEAN", {"default": False}),
        "chain": ("BOOLEAN", {"default": False}),
        "block": ("INT", {"default": 0}),
        "sigma": ("FLOAT", {"default": 100.0}),
        "keyword": ("STRING", {"default": ""}),
    }

    def change(self, patched, sparse=False, chain=False, block=0, sigma=100.0, keyword=""):
        options = patched.model_options["transformer_options"]
        previous = options.get(OVERRIDE) if chain else None

        def stranger(func, q, k, v, *args, **kwargs):
            given = kwargs.get("transformer_options") or {}
            late = given.get("block_index", 0) >= block and float(given["sigmas"].max()) <= sigma
            if sparse and late and q.shape == k.shape:
                dim = 2 if kwargs.get("skip_reshape") else 1
                half = torch.arange(0, k.shape[dim], 2)
                k, v = k.index_select(dim, half), v.index_select(dim, half)
            kwargs = {**kwargs, keyword: None} if keyword else kwargs
            return func(q, k, v, *args, **kwargs) if previous is None else previous(func, q, k, v, *args, **kwargs)

        options[OVERRIDE] = stranger


class Reinstalled(Patch):
    """An attention override that puts itself back before every step, as ComfyUI's own sparse attention does."""

    def change(self, patched):
        previous = patched.model_options["transformer_options"].get(OVERRIDE)

        def override(func, *args, **kwargs):
            STEPS.append(0)
            return func(*args, **kwargs) if previous is None else previous(func, *args, **kwargs)

        def prepare(patcher, timestep, model_options=None, *_):
            (model_options or patcher.model_options)["transformer_options"][OVERRIDE] = override

        patched.model_options["transformer_options"][OVERRIDE] = override
        patched.add_callback(CallbacksMP.ON_PREPARE_STATE, prepare)


class Direct(Patch):
    """A pack with a forward of its own: its attention calls give the override no options."""

    def change(self, patched):
        def model_function(apply_model, args):
            model, given = apply_model.__self__, dict(args["c"])
            options = dict(given.pop("transformer_options"))
            options.pop(OVERRIDE, None)
            return model._apply_model(args["input"], args["timestep"], transformer_options=options, **given)

        patched.set_model_unet_function_wrapper(model_function)


class Scarce(Patch):
    """A card that is full outside attention: raises while more than `limit` things of that class are alive."""

    WIDGETS = {"limit": ("INT", {})}

    def change(self, patched, limit):
        from jenga.carving.residuals import AnchorState

        def diffusion_model(executor, *args, **kwargs):
            import gc

            gc.collect()
            if sum(type(thing) is AnchorState for thing in gc.get_objects()) > limit:
                raise torch.OutOfMemoryError("made by this test")
            return executor(*args, **kwargs)

        patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "jenga_tests", diffusion_model)


class Control:
    """A conditioning with a ControlNet on it that adds nothing."""

    CATEGORY, FUNCTION, RETURN_TYPES = "jenga tests", "add", ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"conditioning": ("CONDITIONING",)}}

    def add(self, conditioning):
        class Nothing(ControlBase):
            def get_control(self, *args, **kwargs):
                return {"output": [], "input": [], "middle": []}

            def copy(self):
                return Nothing()

        return (
            [[text, {**extra, "control": Nothing(), "control_apply_to_uncond": True}] for text, extra in conditioning],
        )


class FullGraph(Patch):
    """ComfyUI's compile wrapper with fullgraph, as packs with a node of their own use it."""

    def change(self, patched):
        def keep(entries):
            return ["transformer_options" not in entry.name for entry in entries]

        set_torch_compile_wrapper(patched, backend="cudagraphs", fullgraph=True, options={"guard_filter_fn": keep})


class LongConditioning:
    """A fixed random text embedding of so many tokens."""

    CATEGORY, FUNCTION, RETURN_TYPES = "jenga tests", "make", ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seed": ("INT", {}), "tokens": ("INT", {})}}

    def make(self, seed, tokens):
        generator = torch.Generator().manual_seed(seed)
        pooled = torch.randn(1, 768, generator=generator)
        return ([[torch.randn(1, tokens, 64, generator=generator), {"pooled_output": pooled}]],)


class CaptureSteps:
    """Hands the steps that were counted to the test."""

    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "jenga tests", "capture", (), True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent": ("LATENT",)}}

    def capture(self, latent):
        steps = STEPS.copy()
        STEPS.clear()
        return {"ui": {"steps": steps}}


NODE_CLASS_MAPPINGS = {
    "JengaTestExtraPass": ExtraPass,
    "JengaTestScheduleReader": ScheduleReader,
    "JengaTestKnowing": Knowing,
    "JengaTestCountingSampler": CountingSampler,
    "JengaTestLookingSampler": LookingSampler,
    "JengaTestSigmas": Sigmas,
    "JengaTestFullSizeLatent": FullSizeLatent,
    "JengaTestFullSizePatch": FullSizePatch,
    "JengaTestStranger": StrangerOverride,
    "JengaTestReinstalled": Reinstalled,
    "JengaTestDirect": Direct,
    "JengaTestScarce": Scarce,
    "JengaTestControl": Control,
    "JengaTestFullGraph": FullGraph,
    "JengaTestLongConditioning": LongConditioning,
    "JengaTestCaptureSteps": CaptureSteps,
}

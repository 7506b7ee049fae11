"""Progressive Resolution Sampler: SamplerCustomAdvanced whose noisy steps run on a smaller latent (stages.py)."""

from comfy_api.v0_0_2 import io

from jenga.sampling.presets import STAGE_ROWS, StageRule
from jenga.sampling.resolution import RESIZE_MODES

from .host import inputs, private, runs, widgets
from .host.latents import sampled
from .host.stage_settings import TRAJECTORY, UPSAMPLE, StageSettings
from .host.stages import outer_sample
from .host.step_reuse import FROM_PRESET, THRESHOLD

CUSTOM = "custom"
KEEPING = tuple(row.name for row in STAGE_ROWS if row.keeps_trajectory)
SMALLER = tuple(row.name for row in STAGE_ROWS if any(rule.scale < 1 for rule in row.stages))  # with small stages
UPSAMPLE_TOOLTIP = (
    "How the latent is enlarged between stages. trajectory: the noisy latent goes on with all its frequencies and gets "
    "those that it lacks from the noise; stages follow one schedule. The others: its clean prediction is enlarged in "
    f"that way and noised again. from preset: trajectory with {' and '.join([*KEEPING, CUSTOM])}, {UPSAMPLE} with the "
    "others."
)


class JengaProgressiveSampler(io.ComfyNode):
    """In the place of SamplerCustomAdvanced; with one stage it is that node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="JengaProgressiveSampler",
            display_name="Progressive Resolution Sampler",
            category="Jenga",
            description="Runs the early, noisy steps on a smaller latent. Takes the place of SamplerCustomAdvanced; "
            "with Jenga Attention on the model the preset also sets how much each stage keeps.",
            search_aliases=["jenga sampler", "progressive resolution", "multi-resolution", "two stage", "prores"],
            inputs=[
                io.Noise.Input("noise"),
                io.Guider.Input("guider"),
                io.Sampler.Input("sampler"),
                io.Sigmas.Input("sigmas"),
                io.Latent.Input("latent_image"),
                inputs.preset(STAGE_ROWS, "turbo", CUSTOM, "the fields below."),
                inputs.step_reuse(advanced=False),
                io.String.Input(
                    "scales",
                    default="0.75, 1.0",
                    advanced=True,
                    extra_dict=widgets.shown_with(preset=[CUSTOM]),
                    tooltip="custom: size of each stage. The last one is 1.0.",
                ),
                io.String.Input(
                    "switch_points",
                    default="0.5",
                    advanced=True,
                    extra_dict=widgets.shown_with(preset=[CUSTOM]),
                    tooltip="custom: where each stage but the last ends, as a fraction of the steps.",
                ),
                io.String.Input(
                    "shift_ratios",
                    default="1.0, 1.0",
                    advanced=True,
                    extra_dict=widgets.shown_with(preset=[CUSTOM]),
                    tooltip="custom: factor on the sigma shift of your schedule for each stage. One value is for all.",
                ),
                io.Combo.Input(
                    "upsample",
                    options=[FROM_PRESET, TRAJECTORY, *RESIZE_MODES],
                    default=FROM_PRESET,
                    advanced=True,
                    extra_dict=widgets.counts_with(preset=[*SMALLER, CUSTOM]),
                    tooltip=UPSAMPLE_TOOLTIP,
                ),
                io.Combo.Input(
                    "stage_noise",
                    options=["dct", "independent"],
                    default="dct",
                    advanced=True,
                    extra_dict=widgets.counts_with(preset=[*SMALLER, CUSTOM]),
                    tooltip="dct: all stages share the low frequencies of one noise, so that the clip resembles the "
                    "full-size run of the same seed. independent: fresh noise for every stage.",
                ),
                inputs.reuse_threshold(optional=True),
            ],
            outputs=[io.Latent.Output(display_name="output"), io.Latent.Output(display_name="denoised_output")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        noise,
        guider,
        sampler,
        sigmas,
        latent_image,
        preset,
        step_reuse,
        scales,
        switch_points,
        shift_ratios,
        upsample,
        stage_noise,
        reuse_threshold=THRESHOLD,
    ) -> io.NodeOutput:
        rules = parse_stages(scales, switch_points, shift_ratios) if preset == CUSTOM else None
        remarks = widgets.idle(
            cls,
            preset=preset,
            step_reuse=step_reuse,
            scales=scales,
            switch_points=switch_points,
            shift_ratios=shift_ratios,
            upsample=upsample,
            stage_noise=stage_noise,
            reuse_threshold=reuse_threshold,
        )
        settings = StageSettings(preset, rules, step_reuse, reuse_threshold, upsample, stage_noise, tuple(remarks))
        patcher = guider.model_patcher
        latent = {**latent_image, "samples": private.fix_empty_latent(patcher, latent_image)}
        found: dict = {}
        original = guider.model_options
        guider.model_options = private.clone_options(original)
        wrapper = outer_sample(settings, cls.hidden.unique_id)
        private.wrap_options(guider.model_options, private.OUTER_SAMPLE, runs.RUN_KEY, wrapper)
        try:
            samples = guider.sample(
                noise.generate_noise(latent),
                latent["samples"],
                sampler,
                sigmas,
                denoise_mask=latent.get("noise_mask"),
                callback=private.preview_callback(patcher, max(0, sigmas.shape[-1] - 1), found),
                disable_pbar=private.hides_progress(),
                seed=noise.seed,
            )
        finally:
            guider.model_options = original
        samples = private.on_result_device(samples)
        denoised = samples if "x0" not in found else _denoised(patcher, found["x0"], samples)
        return io.NodeOutput(sampled(latent, samples), sampled(latent, denoised))


def parse_stages(scales: str, switch_points: str, shift_ratios: str) -> tuple[StageRule, ...]:
    """The custom fields. Raises ValueError that names the field and what it must hold."""

    def numbers(name: str, text: str, low: float, high: float) -> list[float]:
        try:
            values = [float(part) for part in text.split(",") if part.strip()]
        except ValueError:
            values = [float("nan")]
        if not all(low <= value <= high for value in values):
            raise ValueError(
                f"Progressive Resolution Sampler: {name} must hold numbers from {low} to {high}, separated by commas, "
                f"got {text!r}"
            )
        return values

    sizes = numbers("scales", scales, 0.1, 1.0)
    points = numbers("switch_points", switch_points, 0.0, 1.0)
    ratios = numbers("shift_ratios", shift_ratios, 0.05, 20.0)
    if not sizes or sizes[-1] != 1.0:
        raise ValueError(f"Progressive Resolution Sampler: scales must end with 1.0, got {scales!r}")
    if len(points) != len(sizes) - 1 or points != sorted(points):
        raise ValueError(
            f"Progressive Resolution Sampler: switch_points must hold {len(sizes) - 1} rising numbers, one fewer than "
            f"scales, got {switch_points!r}"
        )
    if len(ratios) == 1:
        ratios *= len(sizes)
    if len(ratios) != len(sizes):
        raise ValueError(
            f"Progressive Resolution Sampler: shift_ratios must hold 1 or {len(sizes)} numbers, got {shift_ratios!r}"
        )
    return tuple(StageRule(*row, None) for row in zip(sizes, [*points, 1.0], ratios, strict=True))


def _denoised(patcher, x0, samples):
    """The sampler's last prediction in the latent space of the graph."""
    if samples.is_nested and not x0.is_nested:
        shapes = [part.shape for part in samples.unbind()]
        x0 = private.nested(private.unpack(x0, shapes))
    return patcher.model.process_latent_out(x0.to("cpu"))  # one of several parts knows `to` alone in older ComfyUI

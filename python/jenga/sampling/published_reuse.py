"""The published polynomials of step reuse for Wan 2.1, highest power first. Source: TeaCache, with retained steps.

They map the relative change of the projected time modulation to that of the model's output.
"""

WAN_COEFFICIENTS: dict[str, tuple[float, ...]] = {
    "Wan 1.3B": (-5.21862437e4, 9.23041404e3, -5.28275948e2, 1.36987616e1, -4.99875664e-2),
    "Wan 14B": (-3.03318725e5, 4.90537029e4, -2.65530556e3, 5.87365115e1, -3.15583525e-1),
    "Wan I2V 480P": (2.57151496e5, -3.54229917e4, 1.40286849e3, -1.35890334e1, 1.32517977e-1),
    "Wan I2V 720P": (8.10705460e3, 2.13393892e3, -3.72934672e2, 1.66203073e1, -4.17769401e-2),
}

"""Instructions of the C kernels for one call, row, pixel, element read, element written, multiply-accumulate."""

from __future__ import annotations

__all__ = ["CODE", "COEFFICIENTS"]

CODE = (400.0,)

COEFFICIENTS: dict[str, dict[str, tuple[float, ...]]] = {
    "cortex-m4": {
        "k.conv2d_dsp": (60, 20, 20, 0, 12, 0.65),
        "k.depthwise_conv2d_dsp": (60, 40, 10, 1.5, 10, 0.7),
        "k.dense_dsp": (60, 0, 0, 0, 12, 0.95),
        "k.conv2d_f32": (60, 20, 20, 0, 4, 1.6),
        "k.depthwise_conv2d_f32": (60, 40, 10, 0, 4, 2),
        "k.pair_s8": (40, 0, 0, 0, 14, 0),
        "k.keep_rows": (25, 10, 0, 0, 1.5, 0),
        "other": (40, 10, 0, 1, 8, 2),
    },
}

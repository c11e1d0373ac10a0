"""Our passes. Importing this package registers them, and the pipelines made of them."""

from __future__ import annotations

from . import (
    calibrate,
    canonicalize,
    correct_bias,
    dead_channels,
    equalize_layers,
    expand_patches,
    fit_scratch,
    fold_batch_norm,
    fold_constants,
    fold_scale,
    fuse_activation,
    fuse_pad,
    fuse_quantized,
    layout_nhwc,
    liveness,
    lower_to_mem,
    measure_error,
    move_stored,
    nudge_scales,
    order,
    patch,
    pipelines,
    plan_arena,
    pull_input,
    quantize,
    receptive_field,
    recognise_activations,
    recompute,
    round_weights,
    scan_columns,
    schedule,
    search_quantization,
    set_io,
    split_channels,
    stream,
)

__all__ = [
    "calibrate", "canonicalize", "correct_bias", "dead_channels", "equalize_layers", "expand_patches", "fit_scratch",
    "fold_batch_norm", "fold_constants", "fold_scale", "fuse_activation", "fuse_pad", "fuse_quantized", "layout_nhwc",
    "liveness", "lower_to_mem", "measure_error", "move_stored", "nudge_scales", "order", "patch", "pipelines",
    "plan_arena", "pull_input", "quantize", "receptive_field", "recognise_activations", "recompute", "round_weights",
    "scan_columns", "schedule", "search_quantization", "set_io", "split_channels", "stream",
]

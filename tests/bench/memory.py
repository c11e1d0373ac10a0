"""How many bytes of RAM each model needs, layer by layer and row by row: `python tests/bench/memory.py [MODEL ...]`.

The arena is what the generated C has, alignment included, scratch too. Network outputs lie in the caller's buffers and
are not counted; the input lies in the caller's buffer. `reference` is the figure of ../shared/reference/
memory-techniques.md, section 3, level E, input in the caller's buffer by rows; `bar` the goal at +0 % MACs (times 4 for
float models). `planned` is the largest sum of bytes live at one time, which no placement beats.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from tinyc.tools.cli import table

from tinyir.pass_manager import Context, PassManager, parse_pipeline
from tinyir.registry import FRONTENDS, PIPELINES, load_plugins

MODELS = Path(__file__).resolve().parents[2].parent / "shared" / "models"

REFERENCES: dict[str, tuple[int, int]] = {
    "mbv2_w035_144_ortq_int8": (24_768, 25_400), "mcunet_det_int8": (22_240, 22_500),
    "mcunetv2_large_int8": (221_120, 222_000), "vww_mobilenetv1_int8": (11_136, 11_500),
    "resnet8_int8": (8_960, 9_300), "kws_dscnn_int8": (3_456, 3_700),
    "proxyless_w030_176_f32": (4 * 39_776, 4 * 41_000), "face_slim320_f32": (4 * 71_680, 4 * 73_000),
    "denoise_unet_resize_f32": (4 * 4_928, 4 * 5_000), "textdir_mbv3_f32": (4 * 45_024, 4 * 45_800),
}
"""By model: reference bytes and the bar."""


def arena_of(model: Path, extra: str) -> tuple[int, int, float]:
    """Bytes of the arena and the most that is live, with the passes `extra` in front of the lowering; seconds."""
    module = FRONTENDS.get("onnx")(str(model), name="net", ctx=Context())
    context = Context()
    begin = time.perf_counter()
    pipeline = PIPELINES.get("O2").replace("lower-to-mem", f"{extra}lower-to-mem")
    PassManager(parse_pipeline(pipeline)).run(module, context)
    stats = context.stats["plan-arena"]
    return int(stats["peak-bytes"]), int(stats["lower-bound-bytes"]), time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", help="default: those that have a reference figure")
    load_plugins()
    rows = [("model", "layer-wise", "streamed", "planned", "reference", "bar", "of bar", "s")]
    for name in parser.parse_args().models or REFERENCES:
        plain, _, _ = arena_of(MODELS / f"{name}.onnx", "")
        streamed, planned, seconds = arena_of(MODELS / f"{name}.onnx", "schedule,")
        reference, bar = REFERENCES.get(name, (0, 0))
        rows.append((name, f"{plain:,}", f"{streamed:,}", f"{planned:,}", f"{reference or '-':,}" if reference else "-",
                     f"{bar:,}" if bar else "-", f"{streamed / bar:.2f}" if bar else "-", f"{seconds:.1f}"))
    print(table(rows, right=(1, 2, 3, 4, 5, 6, 7)))


if __name__ == "__main__":
    main()

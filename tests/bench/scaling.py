"""How long the optimiser takes as networks grow deeper: `python tests/bench/scaling.py [BLOCKS ...]`.

    SCALING.md                    beside this file

Chains of 5, 10, 20 and 40 inverted bottlenecks with random weights, quantised by tinyc, compiled for a Cortex-M4.
Counted is what `order`, `schedule`, `fit-scratch` and `plan-arena` take together, in seconds of processor time of this
process. All of it takes about three minutes.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is loaded

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from mobilenet_v2 import mobilenet_v2, samples
from tinyc.tools.driver import Job, Quantization, compile_job
from tinyc.tools.limits import NO_LIMITS, Limits

from tinyir.ir import Module
from tinyir.pass_manager import Context, Instrument, Pass
from tinyir.registry import BACKENDS

_DEPTHS = (5, 10, 20, 40)
_SIZE = 96
_PASSES = ("order", "schedule", "fit-scratch", "plan-arena")
_WAYS = {"-O2": NO_LIMITS, "--ram min": Limits(ram="min"), "--recompute 10%": Limits(ram="min", recompute="10%")}


class Seconds(Instrument):
    """Adds up the processor time of the optimiser's passes."""

    def __init__(self) -> None:
        self.total = 0.0
        self._begin = 0.0

    def before(self, number: int, pass_: Pass, module: Module, ctx: Context) -> None:
        self._begin = time.process_time()

    def after(self, number: int, pass_: Pass, module: Module, ctx: Context) -> None:
        self.total += time.process_time() - self._begin if pass_.name in _PASSES else 0.0


def chain(depth: int, folder: Path) -> Path:
    """An int8 model with so many bottlenecks, all of 24 x 24 pixels and 16 channels, expanded to 96."""
    onnx.save(mobilenet_v2(1.0, _SIZE, 10, [(6, 16, depth, 2)]), folder / "float.onnx")
    np.savez(folder / "samples.npz", image=samples(_SIZE))
    wanted = Quantization("int8", str(folder / "samples.npz"))
    compiled = compile_job(Job(str(folder / "float.onnx"), quantization=wanted, graph_only=True))
    path = folder / f"chain{depth}.onnx"
    path.write_bytes(BACKENDS.get("onnx")(compiled.module, name=path.stem)[path.name])
    return path


def measured(path: Path, limits: Limits) -> float:
    """The seconds that the optimiser took."""
    seconds = Seconds()
    compile_job(Job(str(path), target="cortex-m4", limits=limits, quantization=Quantization(io="int8")),
                instruments=[seconds])
    return seconds.total


def report(rows: Sequence[tuple[int, Sequence[float]]]) -> str:
    """SCALING.md."""
    head = " | ".join(["blocks", *(f"{way} (s) | s a block" for way in _WAYS)])
    lines = [f"| {head} |", "| --- |" + " --: |" * (2 * len(_WAYS))]
    for depth, seconds in rows:
        cells = [cell for value in seconds for cell in (f"{value:.2f}", f"{value / depth:.3f}")]
        lines.append("| " + " | ".join([str(depth), *cells]) + " |")
    table = "\n".join(lines)
    return f"""# Time to choose a schedule

Made by `python tests/bench/scaling.py`: int8 chains of inverted bottlenecks, images of {_SIZE} x {_SIZE},
`--target cortex-m4 --io int8`. Seconds of processor time of the passes {", ".join(_PASSES)}, together, and
these by the number of blocks: what does not grow is linear in the depth.

{table}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("depths", nargs="*", metavar="BLOCKS", type=int, help="default: 5 10 20 40")
    depths = parser.parse_args().depths
    rows = []
    with tempfile.TemporaryDirectory(prefix="tinyc-") as folder:
        for depth in depths or _DEPTHS:
            path = chain(depth, Path(folder))
            rows.append((depth, [measured(path, limits) for limits in _WAYS.values()]))
            print(depth, *(f"{seconds:.2f}" for seconds in rows[-1][1]), flush=True)
    if not depths:
        (Path(__file__).resolve().parent / "SCALING.md").write_text(report(rows))


if __name__ == "__main__":
    main()

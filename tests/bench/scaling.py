"""How long the optimiser takes as networks grow deeper: `python tests/bench/scaling.py [BLOCKS ...]`.

    SCALING.md                    beside this file

Chains of 5, 10, 20 and 40 inverted bottlenecks with random weights, all alike and over four resolutions, quantised by
tinyc, compiled for a Cortex-M4.
Counted is what `order`, `schedule`, `fit-scratch` and `plan-arena` take together, in seconds of processor time of this
process. All of it takes about six minutes.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is loaded

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from mobilenet_v2 import mobilenet_v2, samples
from tinyc.tools.driver import Job, Quantization, compile_job
from tinyc.tools.limits import NO_LIMITS, Limits

from tinyir.garbage import few_collections
from tinyir.ir import Module
from tinyir.pass_manager import Context, Instrument, Pass
from tinyir.registry import BACKENDS

_DEPTHS = (5, 10, 20, 40)
_SIZE = 96
PASSES = ("order", "schedule", "fit-scratch", "plan-arena")
"""The optimiser: what chooses how the network is executed, and where everything lies."""
_CHANNELS = {"all of one size": (16,), "over four resolutions": (16, 24, 40, 64)}
_WAYS = {"-O2": NO_LIMITS, "--ram min": Limits(ram="min"), "--recompute 10%": Limits(ram="min", recompute="10%")}


class Seconds(Instrument):
    """Adds up the processor time of the optimiser's passes."""

    def __init__(self) -> None:
        self.total = 0.0
        self._begin = 0.0

    def before(self, number: int, pass_: Pass, module: Module, ctx: Context) -> None:
        self._begin = time.process_time()

    def after(self, number: int, pass_: Pass, module: Module, ctx: Context) -> None:
        self.total += time.process_time() - self._begin if pass_.name in PASSES else 0.0


def chain(depth: int, channels: Sequence[int], folder: Path) -> Path:
    """An int8 model with so many bottlenecks, from 24 x 24 pixels on: a stage for each of `channels`, of half the rows
    and columns of the one before."""
    stages = [(6, one, (depth + i) // len(channels), 2) for i, one in enumerate(channels)]
    onnx.save(mobilenet_v2(1.0, _SIZE, 10, stages), folder / "float.onnx")
    np.savez(folder / "samples.npz", image=samples(_SIZE))
    wanted = Quantization("int8", str(folder / "samples.npz"))
    compiled = compile_job(Job(str(folder / "float.onnx"), quantization=wanted, graph_only=True))
    path = folder / f"chain{depth}.onnx"
    path.write_bytes(BACKENDS.get("onnx")(compiled.module, name=path.stem)[path.name])
    return path


def measured(path: Path, limits: Limits) -> float:
    """The seconds that the optimiser took."""
    seconds = Seconds()
    with few_collections():  # as the command does
        compile_job(Job(str(path), target="cortex-m4", limits=limits, quantization=Quantization(io="int8")),
                    instruments=[seconds])
    return seconds.total


def table(rows: Sequence[tuple[int, Sequence[float]]]) -> str:
    """A line for each depth."""
    head = " | ".join(["blocks", *(f"{way} (s) | s a block" for way in _WAYS)])
    lines = [f"| {head} |", "| --- |" + " --: |" * (2 * len(_WAYS))]
    for depth, seconds in rows:
        cells = [cell for value in seconds for cell in (f"{value:.2f}", f"{value / depth:.3f}")]
        lines.append("| " + " | ".join([str(depth), *cells]) + " |")
    return "\n".join(lines)


def report(tables: Mapping[str, str]) -> str:
    """SCALING.md."""
    parts = [f"## Bottlenecks {kind}\n\n{text}\n" for kind, text in tables.items()]
    return f"""# Time to choose a schedule

Made by `python tests/bench/scaling.py`: int8 chains of inverted bottlenecks, images of {_SIZE} x {_SIZE},
`--target cortex-m4 --io int8`. Seconds of processor time of the passes {", ".join(PASSES)},
together, and these by the number of blocks: what does not grow is linear in the depth.

""" + "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("depths", nargs="*", metavar="BLOCKS", type=int, help="default: 5 10 20 40")
    depths = parser.parse_args().depths
    with tempfile.TemporaryDirectory(prefix="tinyc-") as folder:
        tables = {kind: table(list(_rows(depths or _DEPTHS, channels, Path(folder))))
                  for kind, channels in _CHANNELS.items()}
    if not depths:
        (Path(__file__).resolve().parent / "SCALING.md").write_text(report(tables))


def _rows(depths: Sequence[int], channels: Sequence[int], folder: Path) -> Iterator[tuple[int, list[float]]]:
    for depth in depths:
        path = chain(depth, channels, folder)
        yield depth, [measured(path, limits) for limits in _WAYS.values()]
        print(f"{len(channels)} x", depth, "done", flush=True)


if __name__ == "__main__":
    main()

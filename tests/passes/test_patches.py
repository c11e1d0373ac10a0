"""Networks of which a part runs tile by tile compute what they compute layer by layer: random ones, random grids.

What test_stream has, and pools that count padding, resizing by odd factors, constant images, padding on its own; parts
from anywhere in the network, results in the middle; tiles layer by layer and strips row by row.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tinyir.clone import clone_module
from tinyir.diag import CompileError
from tinyir.interp import run
from tinyir.ir import Array, Module, Value
from tinyir.opdef import Op
from tinyir.ops import Add, AvgPool, Concat, Pad, QAdd, QAvgPool
from tinyir.parser import parse
from tinyir.pass_manager import Context, PassManager, parse_pipeline
from tinyir.printer import print_module
from tinyir.registry import BACKENDS
from tinyir.tiles import check_tiles
from tinyir.types import F32, TensorType
from tinyir.verify import verify

from ..backends.guarded import BUILDS, Build, run_guarded
from ..backends.harness import COMPILERS, run_c
from .test_stream import QUANT, Network, assert_same

LOWER = "lower-to-mem,plan-arena"


class Images(Network):
    """More kinds of ops, which can be computed by tiles."""

    def pool(self) -> None:
        x = self.pick()
        if min(x.shape[1:3]) < 4:
            return
        pad, stride = (1, 0, 1, 1), (int(self.rng.integers(1, 3)), 1)
        counted = bool(self.rng.random() < 0.5)
        plain = AvgPool(Value(TensorType(x.shape, F32)), (3, 2), stride, pad)
        if self.quantised:
            op: Op = QAvgPool(x, self.type(plain.out.shape), (3, 2), stride, pad, counted)
        else:
            ceil = (int(self.rng.integers(2)), 0)
            op = AvgPool(x, (3, 2), stride, pad, (1, 1), counted, ceil)
        self.images.append(self.build.add(op).results[0])

    def enlarge(self) -> None:
        if self.rng.random() < 0.5:
            super().enlarge()
            return
        x = self.pick()
        if x.type.elements > 1000:
            return
        rows, columns = int(self.rng.integers(2, 14)), int(self.rng.integers(2, 14))
        scales = rows / x.shape[1], columns / x.shape[2]
        self.resize(x, scales, self.type((1, rows, columns, x.shape[3])))

    def excite(self) -> None:
        """A constant image, padding, or what lies beside another."""
        x = self.pick()
        choice = int(self.rng.integers(3))
        if choice == 0:
            shape = (1, x.shape[1], int(self.rng.choice([1, x.shape[2]])), x.shape[3])
            data = self.rng.integers(-99, 99, shape)
            if self.quantised:
                const = self.build.const("k", data.astype(np.int8), TensorType(shape, x.type.dtype, QUANT))
                self.images.append(self.build.add(QAdd(x, const, result=self.type(x.shape))).out)
            else:
                const = self.build.const("k", data.astype(np.float32))
                self.images.append(self.build.add(Add(x, const)).out)
        elif choice == 1:
            self.images.append(self.build.add(Pad(x, (0, 1, 0, 0), (0, -1, 2, 0), value=3.0)).out)
        elif x.type.elements < 1000:
            self.images.append(self.build.add(Concat((x, x), axis=int(self.rng.integers(1, 3)))).out)

    def patch(self, rows: int) -> str | None:
        """Options of the pass: a part of the network that can be computed by tiles, and a grid; None if not found."""
        ops = self.block.ops[:-1]
        for _ in range(60):
            begin, end = sorted(int(n) for n in self.rng.integers(0, len(ops) + 1, 2))
            group = ops[begin:end]
            kept = [op.out for op in group if any(user not in group for user in op.out.users)]
            grid = (1 if rows else int(self.rng.integers(1, 4)), int(self.rng.integers(1, 5)))
            streamable = not rows or not any(isinstance(op, Pad) or _stacks(op) for op in group)
            if len(group) > 1 and kept and streamable and check_tiles(group, kept, grid) is None:
                return f"patch{{grid={grid[0]}x{grid[1]},from={group[0].out.name},until={group[-1].out.name}," \
                       f"rows={rows}}}"
        return None


def _stacks(op: Op) -> bool:
    return isinstance(op, Concat) and op.axis != 3


def made(seed: int, quantised: bool, rows: int) -> tuple[Module, Module, Array]:
    """A network at mem level, layer by layer and with a patch, and an input."""
    network = Images(seed, quantised)
    plain = network.grow(9)
    x = network.input()
    patched, _ = clone_module(plain)
    expected = run(plain, [x])
    pipeline = network.patch(rows)
    if pipeline is None:
        pytest.skip("no part of this network can be computed by tiles")
    PassManager(parse_pipeline(pipeline)).run(patched)
    verify(patched)
    macs = sum(op.macs() for op in patched.walk())
    assert_same(run(patched, [x]), expected, exact=True)
    context = Context()
    PassManager(parse_pipeline("expand-patches")).run(patched, context)
    verify(patched)
    assert sum(op.macs() for op in patched.walk()) == macs
    text = print_module(patched, facts="none", elide_consts=False)
    assert print_module(parse(text), facts="none", elide_consts=False) == text
    assert_same(run(patched, [x]), expected, exact=quantised)
    for module in (plain, patched):
        PassManager(parse_pipeline(LOWER)).run(module)
        verify(module)
    return plain, patched, x


@pytest.mark.parametrize("rows", [0, 1, 2])
@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("seed", range(14))
def test_interpreter(seed: int, quantised: bool, rows: int) -> None:
    plain, patched, x = made(seed, quantised, rows)
    assert_same(run(patched, [x]), run(plain, [x]), exact=quantised)


@pytest.mark.skipif(not COMPILERS, reason="no C compiler")
@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("seed", range(100, 105))
def test_c(seed: int, quantised: bool, rows: int) -> None:
    """The same bits, floats too: what an element is computed from does not depend on the tile."""
    plain, patched, x = made(seed, quantised, rows)
    flags = ("-O1", "-ffp-contract=off")
    assert_same(run_c(patched, [x], flags=flags), run_c(plain, [x], flags=flags), exact=True)


@pytest.mark.skipif(not BUILDS, reason="no C compiler with sanitizers")
@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("seed", [150, *(pytest.param(s, marks=pytest.mark.long) for s in range(151, 166))])
@pytest.mark.parametrize("build", BUILDS[-1:], ids=lambda build: "-".join(map(str, build)))
def test_honest_bytes(seed: int, quantised: bool, rows: int, build: Build, tmp_path: Path) -> None:
    """Nothing outside of a part is read or written, nothing is read before it is written."""
    plain, patched, x = made(seed, quantised, rows)
    expected = run_c(plain, [x], flags=("-O1", "-ffp-contract=off"))
    assert_same(run_guarded(patched, [x], build, tmp_path), expected, exact=True)


@pytest.mark.skipif(not COMPILERS, reason="no C compiler")
@pytest.mark.parametrize("patch", ["patch{grid=1x3,until=c,rows=1}", "patch{grid=3x2,until=c}"])
def test_tiles_of_planes(patch: str) -> None:
    """A result that is turned to NCHW is written tile by tile too."""
    text = (Path(__file__).parent / "patch.tir").read_text().partition("// -----")[0]
    x = np.random.Generator(np.random.PCG64(1)).uniform(-1, 1, (1, 8, 8, 2)).astype(np.float32)
    plain, patched = parse(text), parse(text)
    PassManager(parse_pipeline(LOWER)).run(plain)
    PassManager(parse_pipeline(f"{patch},{LOWER}")).run(patched)
    assert_same(run_c(patched, [x]), run_c(plain, [x]), exact=True)


NETWORK = """
module @net {
  const @w : tensor<4x3x3x2xf32> = random<1>
  func @main(%x: tensor<1x16x16x2xf32>) -> tensor<1x1x1x4xf32> {
    %a = nn.conv2d(%x, @w, none) {pad = [1, 1, 1, 1]} : tensor<1x16x16x4xf32>
    %b = nn.max_pool(%a) {kernel = [4, 4], stride = [4, 4]} : tensor<1x4x4x4xf32>
    %c = nn.reduce_mean(%b) {axes = [1, 2]} : tensor<1x1x1x4xf32>
    nn.return(%c)
  }
}
"""


@pytest.mark.parametrize(("options", "message"), [
    ("grid=2x2,until=c", "nn.reduce_mean %c needs more than a part of its operands"),
    ("grid=5x1,until=b", "%b has 4 rows, too few for 5 tiles"),
    ("grid=2x2,until=b,rows=1", "strips are as high as the image"),
    ("grid=2by2,until=b", "the grid is '2by2'"),
    ("grid=2x2,until=bb", "there is no value %bb"),
    ("grid=2x2,from=b,until=a", "%b is computed behind %a"),
    ("until=auto,overhead=much", "the overhead is 'much'"),
])
def test_errors_say_what_stands_in_the_way(options: str, message: str) -> None:
    with pytest.raises(CompileError, match=re.escape(message)):
        PassManager(parse_pipeline(f"patch{{{options}}}")).run(parse(NETWORK))


def test_auto_takes_the_least_peak_within_the_overhead() -> None:
    peaks = []
    for overhead in ("0%", "5%", "100%"):
        module, context = parse(NETWORK.replace("kernel = [4, 4]", "kernel = [6, 6], pad = [1, 1, 1, 1]")), Context()
        PassManager(parse_pipeline(f"patch{{overhead={overhead}}},{LOWER}")).run(module, context)
        stats = context.stats["patch"]
        assert int(stats["recomputed-macs"]) <= float(overhead[:-1]) / 100 * 18_432
        peaks.append(int(context.stats["plan-arena"]["peak-bytes"]))
        assert peaks[-1] == stats.get("peak-bytes", peaks[-1])
        assert any("patch: until %b: 2x2" in d.message for d in context.diagnostics)
    assert peaks == sorted(peaks, reverse=True)
    assert peaks[-1] < peaks[0]


def test_equal_tiles_share_functions() -> None:
    """Of nine tiles of two layers the border makes nine kinds; of 36 it makes no more."""
    counts = []
    for grid in ("3x3", "6x6"):
        module = parse(NETWORK.replace("16x16", "24x24").replace("4x4x4xf32", "6x6x4xf32"))
        PassManager(parse_pipeline(f"patch{{grid={grid},until=b}},{LOWER}")).run(module)
        text = BACKENDS.get("c")(module, name="net")["net.c"].decode()
        counts.append(len(re.findall(r"^static void ", text, re.MULTILINE)))
    assert counts[1] <= counts[0] + 1

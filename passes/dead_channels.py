"""Remove channels that are constant for every input, and channels that nobody reads.

    %a = qnn.conv2d(%x, @w0, @b0) : tensor<1x8x8x16xi8, q<0.02:-128>>     // channels 3 and 7 never leave -128
    %b = qnn.depthwise_conv2d(%a, @w1, @b1) {pad = [1, 1, 1, 1]} : tensor<1x8x8x16xi8, q<0.02:-128>>
    %c = qnn.conv2d(%b, @w2, @b2) : tensor<1x8x8x32xi8, q<0.02:-128>>
        ->
    %a = qnn.conv2d(%x, @w0, @b0) : tensor<1x8x8x14xi8, q<0.02:-128>>
    %b = qnn.depthwise_conv2d(%a, @w1, @b1) {pad = [1, 1, 1, 1]} : tensor<1x8x8x14xi8, q<0.02:-128>>
    %c = qnn.conv2d(%b, @w2, @b2) : tensor<1x8x8x32xi8, q<0.02:-128>>     // @b2 took on what 3 and 7 add

Quantised networks have such channels where weights are small against the scale: every sum saturates, or rounds to one
value. The ranges come from `tinyir.stored_ranges` (forward), who reads what from `_channel_classes` (backward). No
output byte changes. Works on channels last: run it behind layout-nhwc.
"""

from __future__ import annotations

from typing import ClassVar

from tinyir.ir import Func, Level, Module
from tinyir.opdef import Op
from tinyir.pass_manager import Context, Pass
from tinyir.rewrite import Rewriter
from tinyir.stored_ranges import StoredRanges

from ._channel_classes import channels_of, live_channels
from ._channel_slicing import Slicer


class DeadChannels(Pass):
    """Remove constant channels and channels that nobody reads from quantised networks."""

    name = "dead-channels"
    level: ClassVar[tuple[Level, ...]] = ("graph", "quant")

    def run(self, module: Module, ctx: Context) -> None:
        rewriter = self.rewriter(module, ctx)
        before = _macs(module)
        removed = 0
        while count := sum(_remove(func, module, ctx, rewriter) for func in module.funcs.values()):
            removed += count
        module.drop_unused_consts()
        ctx.stat("channels", removed)
        ctx.stat("macs", before - _macs(module))


def _macs(module: Module) -> int:
    return sum(op.macs() for op in module.walk())


def _remove(func: Func, module: Module, ctx: Context, rw: Rewriter) -> int:
    """Build the ops with dead channels anew; returns how many channels are gone from results of ops."""
    liveness = live_channels(func, ctx.analysis(StoredRanges, module))
    gone = {op: int((~liveness.of(op.out)).sum()) for op in func.ops if len(op.results) == 1}
    if not any(gone.values()):
        return 0
    slicer = Slicer(liveness, rw)
    replaced = [op for op in list(func.ops) if slicer.rebuild(op)]
    for op in replaced:
        _report(op, gone.get(op, 0), rw)
    for op in reversed(replaced):
        if op.block is not None:
            rw.erase(op)
    return sum(gone.values())


def _report(op: Op, gone: int, rw: Rewriter) -> None:
    if gone and op.macs():
        rw.remark(op, f"{op.opname}: {gone} of {channels_of(op.out)} channels are constant or read by nobody")

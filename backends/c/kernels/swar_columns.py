"""The inner part of convolutions on cores that multiply 32-bit integers and no more: columns of four pixels, or two.

    tc_swar_sums_1_of4(column, weights, starts, segments, channels, sums)

A *column* holds the inputs of four output pixels: for each input two words, pixels 0 and 1 in the halves of the first,
pixels 2 and 3 in those of the second, so that a multiplication by a weight is two (`swar_pack` says when that is
exact). The function computes the sums of up to eight channels, whose weights lie beside each other:

    tc_swar_sums_1_...      a channel at a time, with segments of its own: eight registers for products (`swar_arm`)
    tc_swar_sums_2_...      two channels at a time, which share segments and the words of the column (`swar_riscv`)

Columns of two pixels take half as much scratch memory and a third to a half more instructions.
"""

from __future__ import annotations

from ..library import family
from ..text import fill
from .dsp_text import asm_function
from .swar_arm import ARM, ARM_SPOILED, arm_text
from .swar_riscv import RISCV, RISCV_SPOILED, riscv_text

__all__ = ["sums_text"]

_TWIN = """
    for (; channels > 0; channels -= {together}) {
        const uint32_t *x = column;
        const int8_t *w = weights;
        {begin}
        for (int32_t steps = *segments++; steps > 0; steps = *segments++) {
            {open}
            do {
                {products}
                x += {words};
                w += 16;
            } while (--steps > 0);
            {close}
        }
        {stores}
        weights += {together};
        starts += 2 * {together};
        sums += {pixels} * {together};
    }
"""


@family(r"swar_sums_([12])_of([24])")
def sums_text(name: str, together: str, pixels: str) -> str:
    """The C of tc_swar_sums_<channels at a time>_of<pixels>."""
    comment = f"/* Sums of {pixels} pixels, one after the other, for some channels of a block. */"
    head = (f"void tc_{name}(const uint32_t *column, const int8_t *weights,\n    const uint32_t *starts, "
            "const uint8_t *segments, int32_t channels, int32_t *sums)")
    twin = _twin(int(together), int(pixels))
    if together == "1":
        return asm_function(comment, head, arm_text(int(pixels)), twin, ARM, ARM_SPOILED)
    return asm_function(comment, head, riscv_text(int(pixels)), twin, RISCV, RISCV_SPOILED)


def _twin(together: int, pixels: int) -> str:
    words = pixels // 2
    names = [(channel, word) for channel in range(together) for word in range(words)]
    products = []
    for k in range(2):
        products += [f"const uint32_t w{k}{c} = (uint32_t)(int32_t)w[{8 * k + c}];" for c in range(together)]
        products += [f"const uint32_t x{k}{p} = x[{words * k + p}];" for p in range(words)]
        products += [f"a{c}{p} += w{k}{c} * x{k}{p};" for c, p in names]
    return fill(_TWIN, together=together, pixels=pixels, words=2 * words, products="\n".join(products),
                begin="\n".join(f"uint32_t words{c}{p} = starts[{2 * c}], upper{c}{p} = starts[{2 * c + 1}];"
                                for c, p in names),
                open=f"uint32_t {', '.join(f'a{c}{p} = 0x8000u' for c, p in names)};",
                close="\n".join(f"words{c}{p} += a{c}{p};\nupper{c}{p} += (uint32_t)((int32_t)a{c}{p} >> 16);"
                                for c, p in names),
                stores="\n".join(f"sums[{pixels * c + 2 * p}] = (int32_t)(words{c}{p} - (upper{c}{p} << 16));\n"
                                 f"sums[{pixels * c + 2 * p + 1}] = (int32_t)upper{c}{p};" for c, p in names))

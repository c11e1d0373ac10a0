"""The inner part of convolutions on Cortex-M with DSP: columns of inputs times all pairs of output channels.

    tc_columns_paired_i8_12_of4(stream, column, out, outputs, steps)

A *column* holds the inputs of four output pixels (or fewer) as halves of words, interleaved: for each four inputs
x0 .. x3 of a pixel two words, those of the pixels behind each other. A *stream* holds what the function reads of
constants in the order in which it does: for each pair of output channels two biases, the weights, and for each of the
two channels a multiplier and a rounding constant. Sums of two channels and four pixels, two addresses and four
temporaries take all of the fourteen registers. Columns of three pixels take as many instructions for each product,
those of two 4 % more, those of one 40 %.

paired   A word of the stream has four weights as two halves, h = 256 * w1 + w0 and 256 * w3 + w2; the words of the
         column are a = (x3, x1) and b = (256 * x2 - x3 + 127, 256 * x0 - x1 + 127). SMLAD(h, a) + SMLAD(SXTB16(h), b)
         is 256 times the sum of products, plus 127 * (w0 + w2), which the bias takes away: one instruction unpacks
         four weights. Needs |w| <= 127 and true sums below 2^23.
plain    A word has four weights as bytes, the column has (x2, x0) and (x3, x1): an instruction for each two weights.

`tc_vector_...` is the same for one pixel and four output channels at a time: dense layers.
Sources: Arm, Armv7-M Architecture Reference Manual (SMLAD, SXTB16, SMMLA); Lai et al., arXiv:1801.06601 (CMSIS-NN).
"""

from __future__ import annotations

from ..library import family
from ..text import fill
from .dsp_text import asm_function, float_requantisation, high_requantisation

__all__ = ["columns_text", "vector_text"]

_STEPS = {
    ("paired", 4): """
    ldrd    r2, r3, [r0], #8                    // weights of both channels
    ldrd    r4, r5, [r1], #32                   // pixels 0 and 1
    {first}
    ldrd    r4, r5, [r1, #-24]                  // pixels 2 and 3
    {second}
    sxtb16  r2, r2
    sxtb16  r3, r3
    ldrd    r4, r5, [r1, #-16]
    {first}
    ldrd    r4, r5, [r1, #-8]
    {second}
    """,
    ("plain", 4): """
    ldrd    r2, r3, [r0]                        // weights of both channels
    ldrd    r4, r5, [r1], #32                   // pixels 0 and 1
    sxtb16  r2, r2
    sxtb16  r3, r3
    {first}
    ldrd    r4, r5, [r1, #-24]                  // pixels 2 and 3
    {second}
    ldrd    r2, r3, [r0], #8
    ldrd    r4, r5, [r1, #-16]
    sxtb16  r2, r2, ror #8
    sxtb16  r3, r3, ror #8
    {first}
    ldrd    r4, r5, [r1, #-8]
    {second}
    """,
    ("paired", 3): """
    ldrd    r2, r3, [r0], #8                    // weights of both channels
    ldm.w   r1!, {r4, r5, r9}
    {three}
    sxtb16  r2, r2
    sxtb16  r3, r3
    ldm.w   r1!, {r4, r5, r9}
    {three}
    """,
    ("plain", 3): """
    ldrd    r2, r3, [r0]                        // weights of both channels
    ldm.w   r1!, {r4, r5, r9}
    sxtb16  r2, r2
    sxtb16  r3, r3
    {three}
    ldrd    r2, r3, [r0], #8
    ldm.w   r1!, {r4, r5, r9}
    sxtb16  r2, r2, ror #8
    sxtb16  r3, r3, ror #8
    {three}
    """,
    ("paired", 2): """
    ldrd    r2, r3, [r0], #8                    // weights of both channels
    ldm.w   r1!, {r4, r5, r8, r9}
    {first}
    sxtb16  r2, r2
    sxtb16  r3, r3
    {third}
    """,
    ("plain", 2): """
    ldrd    r2, r3, [r0], #8                    // weights of both channels
    ldm.w   r1!, {r4, r5, r8, r9}
    sxtb16  r12, r2
    sxtb16  lr, r3
    {fourth}
    sxtb16  r2, r2, ror #8
    sxtb16  r3, r3, ror #8
    {third}
    """,
    ("paired", 1): """
    ldrd    r2, r3, [r0], #8                    // weights of both channels
    ldrd    r4, r5, [r1], #8
    smlad   r6, r2, r4, r6
    smlad   r10, r3, r4, r10
    sxtb16  r2, r2
    sxtb16  r3, r3
    smlad   r6, r2, r5, r6
    smlad   r10, r3, r5, r10
    """,
    ("plain", 1): """
    ldrd    r2, r3, [r0], #8                    // weights of both channels
    ldrd    r4, r5, [r1], #8
    sxtb16  r12, r2
    sxtb16  lr, r3
    smlad   r6, r12, r4, r6
    smlad   r10, lr, r4, r10
    sxtb16  r2, r2, ror #8
    sxtb16  r3, r3, ror #8
    smlad   r6, r2, r5, r6
    smlad   r10, r3, r5, r10
    """,
}
"""What is done for each four inputs, by coding and pixels. All instructions have four bytes."""
_SUMS = ("r6", "r7", "r8", "r9"), ("r10", "r11", "r12", "lr")


def _products(sums: tuple[int, ...], weights: tuple[str, str], inputs: tuple[str, ...]) -> str:
    """Sums of some pixels, by number, and both channels."""
    return "\n".join(f"smlad   {_SUMS[channel][pixel]}, {weights[channel]}, {x}, {_SUMS[channel][pixel]}"
                     for channel in (0, 1) for pixel, x in zip(sums, inputs, strict=True))


_PRODUCTS = {
    "first": _products((0, 1), ("r2", "r3"), ("r4", "r5")), "second": _products((2, 3), ("r2", "r3"), ("r4", "r5")),
    "three": _products((0, 1, 2), ("r2", "r3"), ("r4", "r5", "r9")),
    "third": _products((0, 1), ("r2", "r3"), ("r8", "r9")), "fourth": _products((0, 1), ("r12", "lr"), ("r4", "r5")),
}


_COLUMNS = """
    push    {r4-r11, lr}
    ldr     r4, [sp, #36]                       // steps
    sub     sp, sp, #28
    str     r1, [sp, #8]                        // [sp, 8] column
    strd    r3, r2, [sp, #16]                   // [sp, 16] outputs, [sp, 20] out
    str     r3, [sp, #24]                       // [sp, 24] outputs that are left
    lsl     r3, r4, #3
    str     r3, [sp, #12]                       // [sp, 12] bytes of weights of a pair
    rsb     r4, r4, #0
    and     r4, r4, #3
    mov     r5, #{step_bytes}
    mul     r4, r4, r5
    adr.w   r5, 2f
    add     r4, r4, r5
    orr     r4, r4, #1
    str     r4, [sp, #4]                        // [sp, 4] where the first pass enters: steps modulo 4
1:  ldrd    r1, r2, [sp, #8]
    ldrd    r6, r10, [r0], #8                   // biases
    ldr     r3, [sp, #4]
    add     r2, r2, r0
    str     r2, [sp]                            // [sp] end of the weights
    {copies}
    bx      r3
    .balign 4
2:
    .rept   4
    {step}
    .endr
    ldr     r2, [sp]
    cmp     r0, r2
    bne.w   2b
    ldrd    r2, r3, [r0], #8                    // multiplier and rounding of the first channel
    cmp     r2, #0
    blt     5f
    {high_a}
3:  ldrd    r2, r3, [r0], #8                    // of the second
    cmp     r2, #0
    blt     6f
    {high_b}
4:  ldrd    r2, r5, [sp, #20]
    ldr     r3, [sp, #16]
    subs    r5, r5, #2
    {third_pixel}
    blt     7f
    {pairs}
    strd    r2, r5, [sp, #20]
    bne     1b
    add     sp, sp, #28
    pop     {r4-r11, pc}
5:                                              // the first channel in single precision
    {float_a}
    b       3b
6:                                              // the second channel
    {float_b}
    b       4b
7:                                              // there is no second channel
    {bytes}
    add     sp, sp, #28
    pop     {r4-r11, pc}
"""

_COLUMNS_TWIN = """
    for (int32_t o = 0; o < outputs; o += 2) {
        const uint32_t *scaling = stream + 2 + 2 * steps;
        for (int32_t lane = 0; lane < 2 && o + lane < outputs; lane++) {
            for (int32_t pixel = 0; pixel < {pixels}; pixel++) {
                const uint32_t *x = column + pixel;
                uint32_t sum = stream[lane];
                for (int32_t k = 0; k < steps; k++, x += {step_words}) {
                    const uint32_t w = stream[2 + 2 * k + lane];
                    {step}
                }
                out[pixel * outputs + o + lane] = ({kind})tc_requantize_high(sum, scaling[2 * lane],
                    scaling[2 * lane + 1], {shift}, {low}, {high});
            }
        }
        stream = scaling + 4;
    }
"""

_VECTOR_STEP = {
    "paired": """
    ldm.w   r0!, {r2-r5}                        // weights of four channels
    ldrd    r6, r7, [r1], #8                    // four inputs
    smlad   r8, r2, r6, r8
    smlad   r9, r3, r6, r9
    smlad   r10, r4, r6, r10
    smlad   r11, r5, r6, r11
    sxtb16  r2, r2
    sxtb16  r3, r3
    sxtb16  r4, r4
    sxtb16  r5, r5
    smlad   r8, r2, r7, r8
    smlad   r9, r3, r7, r9
    smlad   r10, r4, r7, r10
    smlad   r11, r5, r7, r11
    """,
    "plain": """
    ldm.w   r0, {r2-r5}                         // weights of four channels
    ldrd    r6, r7, [r1], #8                    // four inputs
    sxtb16  r2, r2
    sxtb16  r3, r3
    sxtb16  r4, r4
    sxtb16  r5, r5
    smlad   r8, r2, r6, r8
    smlad   r9, r3, r6, r9
    smlad   r10, r4, r6, r10
    smlad   r11, r5, r6, r11
    ldm.w   r0!, {r2-r5}
    sxtb16  r2, r2, ror #8
    sxtb16  r3, r3, ror #8
    sxtb16  r4, r4, ror #8
    sxtb16  r5, r5, ror #8
    smlad   r8, r2, r7, r8
    smlad   r9, r3, r7, r9
    smlad   r10, r4, r7, r10
    smlad   r11, r5, r7, r11
    """,
}
_VECTOR_STEP_BYTES = {"paired": 56, "plain": 76}

_VECTOR = """
    push    {r4-r11, lr}
    ldr     r4, [sp, #36]                       // steps
    sub     sp, sp, #12
    str     r1, [sp]                            // [sp] column
    strd    r2, r3, [sp, #4]                    // [sp, 4] out, [sp, 8] outputs that are left
    add     r12, r1, r4, lsl #3                 // end of the column
    rsb     r4, r4, #0
    and     r4, r4, #3
    mov     r5, #{step_bytes}
    mul     r4, r4, r5
    adr.w   lr, 2f
    add     lr, lr, r4
    orr     lr, lr, #1                          // where the first pass enters: steps modulo 4
1:  ldm     r0!, {r8-r11}                       // biases
    ldr     r1, [sp]
    bx      lr
    .balign 4
2:
    .rept   4
    {step}
    .endr
    cmp     r1, r12
    bne.w   2b
    {results}
    ldrd    r2, r3, [sp, #4]
    subs    r3, r3, #4
    blt     7f
    bfi     r8, r9, #8, #8
    bfi     r8, r10, #16, #8
    bfi     r8, r11, #24, #8
    str     r8, [r2], #4
    strd    r2, r3, [sp, #4]
    bne     1b
6:  add     sp, sp, #12
    pop     {r4-r11, pc}
7:  strb    r8, [r2]                            // one, two or three are left
    adds    r3, r3, #2
    blt     6b
    strb    r9, [r2, #1]
    beq     6b
    strb    r10, [r2, #2]
    b       6b
    {floats}
"""

_VECTOR_TWIN = """
    for (int32_t o = 0; o < outputs; o += 4) {
        const uint32_t *scaling = stream + 4 + 4 * steps;
        for (int32_t lane = 0; lane < 4 && o + lane < outputs; lane++) {
            const uint32_t *x = column;
            uint32_t sum = stream[lane];
            for (int32_t k = 0; k < steps; k++, x += 2) {
                const uint32_t w = stream[4 + 4 * k + lane];
                {step}
            }
            out[o + lane] = ({kind})tc_requantize_high(sum, scaling[2 * lane], scaling[2 * lane + 1], {shift}, {low},
                {high});
        }
        stream = scaling + 8;
    }
"""

_TWIN_STEPS = {
    "paired": "sum = tc_smlad(w, x[0], sum);\nsum = tc_smlad(tc_even_bytes(w), x[{apart}], sum);",
    "plain": "sum = tc_smlad(tc_even_bytes(w), x[0], sum);\nsum = tc_smlad(tc_odd_bytes(w), x[{apart}], sum);",
}
_KINDS = {"i8": ("int8_t", -128, 127), "u8": ("uint8_t", 0, 255)}


def _head(name: str, kind: str) -> str:
    return (f"void tc_{name}(const uint32_t *stream, const uint32_t *column,\n    {kind} *out, int32_t outputs, "
            "int32_t steps)")


@family(r"columns_(paired|plain)_(i8|u8)_(\d+)_of([1234])")
def columns_text(name: str, coding: str, dtype: str, shift: str, pixels: str) -> str:
    """The C of tc_columns_<coding>_<element type of the results>_<shift>_of<pixels>."""
    kind, low, high = _KINDS[dtype]
    count = int(pixels)
    sums = [list(registers[:count]) for registers in _SUMS]
    high_a, high_b = (high_requantisation(s, "r2", "r3", dtype, int(shift)) for s in sums)
    float_a, float_b = (float_requantisation(s, "r2", "r3", dtype) for s in sums)
    step = _spread(_STEPS[coding, count], **_PRODUCTS)
    copies = "\n".join(f"mov     {r}, {group[0]}" for group in sums for r in group[1:])
    asm = _spread(_COLUMNS, step=step, copies=copies, high_a=high_a, high_b=high_b, float_a=float_a, float_b=float_b,
                  **_stores(sums))
    step_bytes = 4 * len(step.strip().splitlines())
    twin = fill(_COLUMNS_TWIN, step=fill(_TWIN_STEPS[coding], apart=count), kind=kind, shift=shift, low=low, high=high,
                pixels=count, step_words=2 * count)
    comment = (f"/* A column of {pixels} pixels, 4 * steps inputs each, times all output channels, pair after pair.\n"
               " * Results of a pixel lie behind each other, those of the pixels `outputs` apart. */")
    return asm_function(comment, _head(name, kind), asm.replace("{step_bytes}", str(step_bytes)), twin)


def _stores(sums: list[list[str]]) -> dict[str, str]:
    """How the results of a pair of channels, or of one, are stored."""
    places = ["[r2]", "[r2, r3]", "[r4]", "[r4, r3]"]
    joined = [f"bfi     {a}, {b}, #8, #24" + "                    // two neighbouring bytes" * (a == "r6")
              for a, b in zip(*sums, strict=True)]
    others = [f"strh    {a}, {place}" for a, place in zip(sums[0][1:], places[1:], strict=False)]
    return {"third_pixel": "add     r4, r2, r3, lsl #1" if len(others) > 1 else "",
            "pairs": "\n".join([*joined, *others, f"strh    {sums[0][0]}, [r2], #2"]),
            "bytes": "\n".join(f"strb    {a}, {place}" for a, place in zip(sums[0], places, strict=False))}


@family(r"vector_(paired|plain)_(i8|u8)_(\d+)")
def vector_text(name: str, coding: str, dtype: str, shift: str) -> str:
    """The C of tc_vector_<coding>_<element type of the results>_<shift>."""
    kind, low, high = _KINDS[dtype]
    sums = ["r8", "r9", "r10", "r11"]
    results, floats = [], []
    for lane, register in enumerate(sums):
        results.append("ldrd    r2, r3, [r0], #8" + "                    // multiplier and rounding" * (lane == 0))
        results += ["cmp     r2, #0", f"blt     {20 + lane}f",
                    high_requantisation([register], "r2", "r3", dtype, int(shift))]
        floats += [f"{20 + lane}:", float_requantisation([register], "r2", "r3", dtype), f"b       {10 + lane}b"]
        results.append(f"{10 + lane}:")
    asm = _spread(_VECTOR, step=_VECTOR_STEP[coding], results="\n".join(results),
                  floats="\n".join(floats))
    asm = asm.replace("{step_bytes}", str(_VECTOR_STEP_BYTES[coding]))
    twin = fill(_VECTOR_TWIN, step=fill(_TWIN_STEPS[coding], apart=1), kind=kind, shift=shift, low=low, high=high)
    comment = "/* One column of 4 * steps inputs times output channels, four at a time. */"
    return asm_function(comment, _head(name, kind), asm, twin)


def _spread(template: str, **texts: str) -> str:
    """`template` with each `{word}` on a line of its own replaced by the lines of a text."""
    for word, text in texts.items():
        lines = "\n".join(f"    {line.strip()}" if ":" not in line else line.strip()
                          for line in text.strip("\n").splitlines() if line.strip())
        template = template.replace(f"    {{{word}}}\n", f"{lines}\n" if lines else "")
    return template

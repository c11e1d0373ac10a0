"""3x3 windows with 16 products for each four results instead of 36, exactly: tiles of two rows by two columns of
results on Cortex-M with DSP (Winograd, F(2x2, 3x3)).

    tc_winograd_tiles_i8(lines, first, width, channels, tiles, to, outside)
    tc_winograd_i8_16_once4(stream, column, places, outputs, steps)

The results of a tile, times four, are sums of products of transformed inputs and transformed weights, by channel, at
each of 4 x 4 places, which are added up afterwards:

    4 y = A' ((2G w 2G') * (B' x B)) A       x 4 x 4 inputs, w 3 x 3 weights, y 2 x 2 results, * place by place

         1  0 -1  0            2  0  0
    B' = 0  1  1  0       2G = 1  1  1       A' = 1  1  1  0
         0 -1  1  0            1 -1  1            0  1 -1 -1
         0  1  0 -1            0  0  2

All are integers: inputs reach 4 * 128, weights 9 * 128, which fit in 16 bits, and sums may overflow on the way, where
the last one does not. Places are in the order 1, 2, 0, 3 of rows and of columns; weights of column 3 are negative. So
sums of a row of places start with those of the places before them: of 1, then with 1 + 2 those of 0, with 1 - 2 those
of 3. A *column* has the words of four tiles behind each other, for two channels each, a *stream* for each pair of
output channels biases, weights by place and input channels, multipliers and rounding constants.

Source: Lavin, Gray, Fast Algorithms for Convolutional Neural Networks, arXiv:1509.09308.
"""

from __future__ import annotations

from ..library import family
from ..text import fill
from .dsp_text import GUARD, SPOILED, asm_function, float_requantisation, high_requantisation

__all__ = ["tiles_text", "winograd_text"]

_A, _B = ("r6", "r7", "r8", "r9"), ("r10", "r11", "r12", "lr")
_RESULTS = [f"r{i}" for i in range(4, 12)]

_WORD = "\n".join([
    "ldrd    r2, r3, [r0], #8                    // weights of both channels",
    "ldrd    r4, r5, [r1], #16                   // tiles 0 and 1",
    *(f"smlad   {s[t]}, {w}, {x}, {s[t]}" for s, w in ((_A, "r2"), (_B, "r3")) for t, x in ((0, "r4"), (1, "r5"))),
    "ldrd    r4, r5, [r1, #-8]                   // tiles 2 and 3",
    *(f"smlad   {s[t]}, {w}, {x}, {s[t]}" for s, w in ((_A, "r2"), (_B, "r3")) for t, x in ((2, "r4"), (3, "r5"))),
])


def _both_ways(sums: tuple[str, ...], at: int) -> str:
    """Four sums of place 2 become place 1 + place 2, and place 1 in memory place 1 - place 2."""
    others = ("r2", "r3", "r4", "r5")
    lines = [f"ldrd    r2, r3, [sp, #{at}]", f"ldrd    r4, r5, [sp, #{at + 8}]"]
    lines += [f"add     {s}, {s}, {o}" for s, o in zip(sums, others, strict=True)]
    lines += [f"rsb     {o}, {s}, {o}, lsl #1" for s, o in zip(sums, others, strict=True)]
    return "\n".join([*lines, f"strd    r2, r3, [sp, #{at}]", f"strd    r4, r5, [sp, #{at + 8}]"])


_WINOGRAD = """
    push    {r4-r11, lr}
    ldr     r4, [sp, #36]                       // steps
    sub     sp, sp, #392
    mov     r5, #0
    lsl     r4, r4, #4
    strd    r1, r4, [sp, #8]                    // [sp, 8] column, [sp, 12] bytes of weights of a place
    strd    r5, r2, [sp, #24]                   // [sp, 24] output channel, [sp, 28] places
    str     r3, [sp, #32]                       // [sp, 32] output channels left
    mov     r4, #0
    strd    r4, r5, [sp, #72]                   // [sp, 72] eight zeros
    strd    r4, r5, [sp, #80]
    strd    r4, r5, [sp, #88]
    strd    r4, r5, [sp, #96]
1:  ldrd    r2, r3, [r0], #8                    // a pair of channels
    strd    r2, r2, [sp, #40]                   // [sp, 40] what sums start from
    strd    r2, r2, [sp, #48]
    strd    r3, r3, [sp, #56]
    strd    r3, r3, [sp, #64]
    ldr     r1, [sp, #8]
    add     r2, sp, #40
    add     r3, sp, #136
    strd    r2, r3, [sp, #16]                   // [sp, 16] where sums start, [sp, 20] where they go
2:  ldr     r2, [sp, #16]                       // a row of places
    bl      6f                                  // column 1
    add     r2, sp, #104                        // [sp, 104] eight sums
    stm.w   r2, {r6-r12, lr}
    add     r2, sp, #72
    str     r2, [sp, #16]
    bl      6f                                  // column 2
    {both_ways_a}
    {both_ways_b}
    mov     r2, lr
    bl      5f                                  // column 0
    ldr     r2, [sp, #20]
    add     r3, r2, #128
    stm.w   r2, {r6-r9}
    stm.w   r3, {r10-r12, lr}
    add     r2, sp, #104
    bl      6f                                  // column 3
    ldr     r2, [sp, #20]
    add     r3, r2, #64
    stm.w   r3, {r6-r9}
    add     r3, r2, #192
    stm.w   r3, {r10-r12, lr}
    add     r2, r2, #16
    str     r2, [sp, #20]
    add     r3, sp, #200
    cmp     r2, r3
    bne     2b
    add     r1, sp, #136
3:  ldm.w   r1!, {r4-r11}                       // a column of results of one channel: rows 1 and 2
    {rows}
    ldm.w   r1!, {r2, r3, r12, lr}              // row 0
    {above}
    ldm.w   r1!, {r2, r3, r12, lr}              // row 3
    {below}
    ldrd    r2, r3, [r0]                        // multiplier and rounding
    cmp     r2, #0
    blt     9f
    {high}
4:  ldrd    r12, lr, [sp, #24]
    {stores}
    add     r2, sp, #8
    sub     r2, r1, r2                          // 128 where the first column starts
    tst     r2, #64
    itt     ne                                  // the second column
    strne   lr, [sp, #28]
    bne     3b
    add     r0, r0, #8
    ldr     r3, [sp, #32]
    sub     lr, lr, #64
    add     r12, r12, #1
    strd    r12, lr, [sp, #24]
    subs    r3, r3, #1
    str     r3, [sp, #32]
    beq     8f
    tst     r2, #128
    beq     3b                                  // the second channel
    b       1b
5:  str     lr, [sp]                            // goes on with the sums that there are, lr in r2
    mov     lr, r2
    b       7f
6:  str     lr, [sp]                            // products of a place, on top of what is at r2
    ldm.w   r2, {r6-r12, lr}
7:
    {end}
10:
    .rept   {words}
    {word}
    .endr
    {again}
    ldr     pc, [sp]
8:  add     sp, sp, #392
    pop     {r4-r11, pc}
9:                                              // in single precision
    {float}
    b       4b
"""
_END = """
ldr     r3, [sp, #12]
add     r3, r3, r0
str     r3, [sp, #4]                        // [sp, 4] end of the weights
"""
_AGAIN = """
ldr     r2, [sp, #4]
cmp     r0, r2
bne     10b
"""

_TWIN = """
    for (int32_t o = 0; o < outputs; o += 2) {
        const uint32_t *scaling = stream + 2 + 64 * steps;
        for (int32_t lane = 0; lane < 2 && o + lane < outputs; lane++) {
            for (int32_t tile = 0; tile < 4; tile++) {
                uint32_t left[4], right[4];
                for (int32_t row = 0; row < 4; row++) {
                    uint32_t sums[4] = {row == 0 ? stream[lane] : 0, 0, 0, 0};
                    for (int32_t place = 0; place < 4; place++) {
                        const int32_t first = (4 * row + place) * 2 * steps;
                        for (int32_t k = first; k < first + 2 * steps; k++) {
                            sums[place] = tc_smlad(stream[2 + 2 * k + lane], column[4 * k + tile], sums[place]);
                        }
                    }
                    left[row] = sums[0] + sums[1] + sums[2];
                    right[row] = sums[0] - sums[1] + sums[3];
                }
                const uint32_t results[4] = {left[0] + left[1] + left[2], left[0] - left[1] - left[3],
                    right[0] + right[1] + right[2], right[0] - right[1] - right[3]};
                for (int32_t k = 0; k < 4; k++) {
                    places[4 * k + tile][o + lane] = ({kind})tc_requantize_high(results[k], scaling[2 * lane],
                        scaling[2 * lane + 1], {shift}, {low}, {high});
                }
            }
        }
        stream = scaling + 4;
    }
"""


@family(r"winograd_(i8|u8)_(\d+)_(once|many)([1234])")
def winograd_text(name: str, dtype: str, shift: str, passes: str, unroll: str) -> str:
    """The C of tc_winograd_<element type of the results>_<shift>_<passes over the weights of a place><steps of one>."""
    kind, low, high = ("int8_t", -128, 127) if dtype == "i8" else ("uint8_t", 0, 255)
    pairs, top, under = ("r2", "r3", "r12", "lr"), _RESULTS[:4], _RESULTS[4:]
    rows = [f"add     {a}, {a}, {b}" for a, b in zip(top, under, strict=True)]
    rows += [f"sub     {b}, {a}, {b}, lsl #1" for a, b in zip(top, under, strict=True)]
    stores = []
    for first, second in zip(_RESULTS[0::2], _RESULTS[1::2], strict=True):
        stores += ["ldrd    r2, r3, [lr], #8", f"strb    {first}, [r2, r12]", f"strb    {second}, [r3, r12]"]
    many = passes == "many"
    asm = fill(_WINOGRAD, both_ways_a=_both_ways(_A, 104), both_ways_b=_both_ways(_B, 120), rows="\n".join(rows),
               above="\n".join(f"add     {a}, {a}, {c}" for a, c in zip(top, pairs, strict=True)),
               below="\n".join(f"sub     {b}, {b}, {c}" for b, c in zip(under, pairs, strict=True)),
               stores="\n".join(stores), high=high_requantisation(_RESULTS, "r2", "r3", dtype, int(shift)),
               float=float_requantisation(_RESULTS, "r2", "r3", dtype), end=_END if many else "",
               again=_AGAIN if many else "", words=2 * int(unroll), word=_WORD)
    head = (f"void tc_{name}(const uint32_t *stream, const uint32_t *column,\n    {kind} *const *places, "
            "int32_t outputs, int32_t steps)")
    comment = ("/* A column of four tiles, 4 * steps channels, times all output channels, pair after pair. Results of\n"
               " * tile t go to where places[t] is for channel 0, [t + 4] is below it, [t + 8] and [t + 12] beside. */")
    return asm_function(comment, head, asm, fill(_TWIN, kind=kind, shift=shift, low=low, high=high), GUARD,
                        f"{SPOILED} s6 s7 s8 s9")


_TILES = """
    push    {r4-r11, lr}
    ldrd    r4, r5, [sp, #36]                   // tiles, to
    ldr     r6, [sp, #44]                       // outside
    sub     sp, sp, #360
    strd    r0, r4, [sp]                        // [sp] lines, [sp, 4] tiles
    str     r5, [sp, #8]                        // [sp, 8] to
    add     r7, r4, #1
    lsl     r7, r7, #1                          // columns
    mov     r8, #0                              // before the image
    cmp     r1, #0
    it      lt
    rsblt   r8, r1, #0
    add     r9, r1, r8                          // the first inside
    sub     r10, r7, r8
    sub     r11, r2, r9
    cmp     r11, r10
    it      gt
    movgt   r11, r10
    bic     r11, r11, r11, asr #31              // inside
    add     r10, sp, #40                        // [sp, 40] columns: 8 words each
    add     r12, r10, r8, lsl #5
    mul     r9, r9, r3
    mla     r11, r11, r3, r9
    strd    r12, r9, [sp, #12]                  // [sp, 12] columns inside, [sp, 16] bytes to their inputs
    strd    r3, r11, [sp, #20]                  // [sp, 20] channels, [sp, 24] end of the inputs
    lsr     r3, r3, #2
    str     r3, [sp, #28]                       // [sp, 28] fours of channels
    mov     r2, #0                              // columns outside: the same for all channels
    mov     r3, #0
    mov     r7, r6
    mov     r8, #0
    add     r4, r4, #1
    add     r4, r10, r4, lsl #6
1:  stm.w   r10!, {r2, r3, r7, r8}
    stm.w   r10!, {r2, r3, r7, r8}
    cmp     r10, r4
    bne     1b
2:  ldrd    r5, r4, [sp, #12]
    ldr     r0, [sp]
    ldm.w   r0, {r0-r3}
    ldr     r11, [sp, #24]
    cmp     r4, r11
    beq     4f
3:  ldr     r6, [r0, r4]                        // a column
    ldr     r7, [r1, r4]
    ldr     r8, [r2, r4]
    ldr     r9, [r3, r4]
    {flip}
    sxtb16  r10, r6
    sxtb16  r11, r7
    sxtb16  r12, r8
    sxtb16  lr, r9
    {even}
    sxtb16  r6, r6, ror #8
    sxtb16  r7, r7, ror #8
    sxtb16  r8, r8, ror #8
    sxtb16  r9, r9, ror #8
    {odd}
    ldrd    r10, r11, [sp, #20]
    add     r5, r5, #32
    add     r4, r4, r10
    cmp     r4, r11
    bne     3b
4:  ldr     r9, [sp, #20]
    ldr     r8, [sp, #8]
    lsl     r9, r9, #3                          // bytes of a place
    add     r10, r9, r9, lsl #1
    lsl     lr, r10, #2
    add     r11, sp, #40
    ldr     r12, [sp, #4]
5:                                              // a tile
    {half_0}
    sub     r8, r8, lr
    add     r8, r8, #16
    {half_1}
    sub     r8, r8, lr
    sub     r8, r8, #12
    add     r11, r11, #64
    subs    r12, r12, #1
    bne     5b
    ldrd    r2, r3, [sp, #24]                   // the next four channels
    ldr     r4, [sp, #16]
    ldr     r5, [sp, #8]
    add     r2, r2, #4
    add     r4, r4, #4
    add     r5, r5, #32
    subs    r3, r3, #1
    strd    r2, r3, [sp, #24]
    str     r4, [sp, #16]
    str     r5, [sp, #8]
    bne     2b
    add     sp, sp, #360
    pop     {r4-r11, pc}
"""


def _rows(x: tuple[str, str, str, str], at: int) -> str:
    """Four inputs above each other become those of the rows 0, 3, 1 and 2 of places."""
    return "\n".join([
        f"ssub16  {x[0]}, {x[0]}, {x[2]}", f"ssub16  {x[3]}, {x[1]}, {x[3]}",
        f"strd    {x[0]}, {x[3]}, [r5, #{at}]", f"sadd16  {x[0]}, {x[1]}, {x[2]}",
        f"ssub16  {x[2]}, {x[2]}, {x[1]}", f"strd    {x[0]}, {x[2]}, [r5, #{at + 8}]"])


def _columns(x: tuple[str, str, str, str]) -> list[str]:
    """The places of a row from four columns."""
    return [f"ssub16  {x[0]}, {x[0]}, {x[2]}", f"ssub16  {x[3]}, {x[1]}, {x[3]}", f"str     {x[0]}, [r8, r9, lsl #1]",
            f"sadd16  {x[0]}, {x[1]}, {x[2]}", f"str     {x[3]}, [r8, r10]", f"ssub16  {x[2]}, {x[2]}, {x[1]}",
            f"str     {x[0]}, [r8]", f"str     {x[2]}, [r8, r9]"]


def _half(at: int) -> str:
    """All places of a tile for two channels: rows 1 and 2, then 0 and 3."""
    lines: list[str] = []
    for pair in (at + 8, at):
        lines += [f"ldrd    r{2 * c}, r{2 * c + 1}, [r11, #{pair + 32 * c}]" for c in range(4)]
        below = "add     r8, r8, r9, lsl #2"
        lines += [*_columns(("r0", "r2", "r4", "r6")), below, *_columns(("r1", "r3", "r5", "r7"))]
        lines += [below] if pair != at else []
    return "\n".join(lines)


_TILES_TWIN = """
    const int32_t zero = (int16_t)(outside & 0xFFFFu) / 2;
    for (int32_t word = 0; word < channels / 2; word++) {
        const int32_t channel = word / 2 * 4 + word % 2;
        for (int32_t tile = 0; tile < tiles; tile++) {
            int32_t both[2][16];
            for (int32_t half = 0; half < 2; half++) {
                int32_t by_row[4][4];
                for (int32_t k = 0; k < 4; k++) {
                    const int32_t column = first + 2 * tile + k;
                    int32_t x[4];
                    for (int32_t row = 0; row < 4; row++) {
                        const {byte} *line = lines[row];
                        x[row] = column < 0 || column >= width ? zero
                            : line[column * channels + channel + 2 * half]{offset};
                    }
                    by_row[0][k] = x[1] + x[2];
                    by_row[1][k] = x[2] - x[1];
                    by_row[2][k] = x[0] - x[2];
                    by_row[3][k] = x[1] - x[3];
                }
                for (int32_t row = 0; row < 4; row++) {
                    const int32_t *const x = by_row[row];
                    both[half][4 * row] = x[1] + x[2];
                    both[half][4 * row + 1] = x[2] - x[1];
                    both[half][4 * row + 2] = x[0] - x[2];
                    both[half][4 * row + 3] = x[1] - x[3];
                }
            }
            for (int32_t place = 0; place < 16; place++) {
                to[(place * (channels / 2) + word) * 4 + tile] =
                    ((uint32_t)both[0][place] & 0xFFFFu) | (uint32_t)both[1][place] << 16;
            }
        }
    }
"""


@family(r"winograd_tiles_(i8|u8)")
def tiles_text(name: str, dtype: str) -> str:
    """The C of tc_winograd_tiles_<element type>."""
    flip = "\n".join(f"eor     {r}, {r}, #0x80808080" for r in ("r6", "r7", "r8", "r9")) if dtype == "u8" else ""
    asm = fill(_TILES, flip=flip, even=_rows(("r10", "r11", "r12", "lr"), 0), odd=_rows(("r6", "r7", "r8", "r9"), 16),
               half_0=_half(0), half_1=_half(16))
    head = (f"void tc_{name}(const void *const *lines, int32_t first,\n    int32_t width, int32_t channels, "
            "int32_t tiles, uint32_t *to, uint32_t outside)")
    comment = ("/* Up to four tiles beside each other of four lines of `width` pixels, from column `first` on, -1 or\n"
               " * more, as they stand in a column; `outside` is twice the zero point, in both halves. */")
    return asm_function(comment, head, asm, fill(_TILES_TWIN, byte="int8_t" if dtype == "i8" else "uint8_t",
                                                 offset="" if dtype == "i8" else " - 128"))

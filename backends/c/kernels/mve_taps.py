"""Windows of one channel with vectors of 16 bytes (MVE): the inner part of depthwise convolutions.

    tc_mve_columns_3(lines, offset, to, edges, channels)      16 channels of some columns of three lines
    tc_mve_taps_1_1_2(columns, stream, y, shape, count, channels)
    tc_mve_pixel_1_1(columns, stream, y, shape, channels)         one result of 8 or 16 channels

VMLADAVA adds up all that is in its vectors, so the 16 bytes must be of one channel: four columns of four lines. The
lines are interleaved, a word of four bytes for each channel, 16 channels a column, 64 bytes:

    line 0   a0 b0 ...        column 0: a0 a1 a2 a3  b0 b1 b2 b3  ...
    line 1   a1 b1 ...

and four words 64 bytes apart are gathered. The suffix of `tc_mve_taps` says how many fours of lines and of columns a
window takes, and the stride. It goes through two channels and four results at a time, like `mve_run`; the stream has
for each two channels 16 weights of each for each four lines and columns, column by column, then biases and scales.
"""

from __future__ import annotations

import numpy as np

from tinyir.ir import Array

from ..library import family
from ..text import fill
from .mve_pack import Coded, group_channels
from .mve_text import ENTER, FRAME, LEAVE, mve_function, narrowing

__all__ = ["COLUMN", "columns_text", "pack_taps", "pixel_text", "taps_text", "unpack_taps"]

COLUMN = 64
"""Bytes of a column of four lines."""
_SUMS = ("r0", "r2", "r4", "r6"), ("r8", "r10", "r12", "lr")
_REACH = 508
"""Offsets that gathering loads can add."""


def pack_taps(coded: Coded, kernel: tuple[int, int]) -> Array:
    """The stream [pairs of channels, words] u32 of weights [C, KH * KW]."""
    channels, fours = len(coded.weight), [-(-size // 4) for size in kernel]
    chosen = group_channels(channels, 2)
    full = np.zeros((channels, 4 * fours[0], 4 * fours[1]), np.int8)
    full[:, :kernel[0], :kernel[1]] = coded.weight.reshape(channels, *kernel)
    parts = full[chosen].reshape(len(chosen), 2, fours[0], 4, fours[1], 4).transpose(0, 2, 4, 1, 5, 3)
    weights = np.ascontiguousarray(parts).reshape(len(chosen), -1).view(np.uint32)
    bias = coded.bias.astype(np.int32)[chosen].view(np.uint32)
    return np.ascontiguousarray(np.concatenate([weights, bias, coded.scale[chosen].view(np.uint32)], axis=1))


def unpack_taps(stream: Array, channels: int, kernel: tuple[int, int]) -> Coded:
    """The inverse of `pack_taps`."""
    chosen = group_channels(channels, 2)
    pairs, fours = len(stream), [-(-size // 4) for size in kernel]
    parts = np.ascontiguousarray(stream[:, :-4]).view(np.int8).reshape(pairs, *fours, 2, 4, 4)
    full = parts.transpose(0, 3, 1, 5, 2, 4).reshape(pairs, 2, 4 * fours[0], 4 * fours[1])
    weight = np.zeros((channels, *kernel), np.int8)
    bias, scale = np.zeros(channels, np.int64), np.zeros(channels, np.float32)
    weight[chosen] = full[:, :, :kernel[0], :kernel[1]]
    rest = np.ascontiguousarray(stream[:, -4:])
    bias[chosen] = np.ascontiguousarray(rest[:, :2]).view(np.int32)
    scale[chosen] = np.ascontiguousarray(rest[:, 2:]).view(np.float32)
    return Coded(weight.reshape(channels, -1), bias, scale)


_INTERLEAVED = "\n".join(f"    vst4{i}.8 {{q0, q1, q2, q3}}, [r2]{'!' if i == 3 else ''}" for i in range(4))
_OUTSIDE = "\n".join(f"    vdup.8  q{i}, r12" for i in range(4))

_COLUMNS = f"""
    push    {{r4-r11, lr}}
    ldr     r12, [sp, #36]                      // channels that are left
    sub     sp, sp, #16
    vctp.8  r12
    ldr     r12, [r3, #16]                      // what is outside
{_OUTSIDE}
    vstrb.8 q0, [sp]
    ldr     r12, [r3]                           // columns in front of the image
    wls     lr, r12, 2f
1:
{_INTERLEAVED}
    le      lr, 1b
2:  ldr     r12, [r3, #12]                      // bytes from column to column
{{pointers}}
    ldr     r12, [r3, #4]
    wls     lr, r12, 4f
3:
{{loads}}
{_INTERLEAVED}
    le      lr, 3b
4:  ldr     r12, [r3, #16]
{_OUTSIDE}
    ldr     r12, [r3, #8]                       // columns behind it
    wls     lr, r12, 6f
5:
{_INTERLEAVED}
    le      lr, 5b
6:  add     sp, sp, #16
    pop     {{r4-r11, pc}}
"""

_COLUMNS_TWIN = """
    for (int32_t column = 0; column < edges[0] + edges[1] + edges[2]; column++) {
        const int32_t inside = column >= edges[0] && column < edges[0] + edges[1];
        for (int32_t i = 0; i < {lines}; i++) {
            const int8_t *line = lines[i];
            for (int32_t c = 0; c < channels && c < 16; c++) {
                to[column * 64 + c * 4 + i] = inside && line != NULL
                    ? line[offset + (column - edges[0]) * edges[3] + c] : (int8_t)edges[4];
            }
        }
        for (int32_t i = {lines}; i < 4; i++) {
            for (int32_t c = 0; c < 16; c++) {
                to[column * 64 + c * 4 + i] = 0;
            }
        }
    }
"""


@family(r"mve_columns_([1-4])")
def columns_text(name: str, digit: str) -> str:
    """The C of tc_mve_columns_<lines>."""
    count = int(digit)
    pointers = "".join(f"""
    ldr     r{4 + i}, [r0, #{4 * i}]
    cmp     r{4 + i}, #0
    ittee   eq
    moveq   r{4 + i}, sp                              // a line outside
    moveq   r{8 + i}, #0
    addne   r{4 + i}, r{4 + i}, r1
    movne   r{8 + i}, r12""" for i in range(count))
    loads = [f"    vps{'t' * count}", *(f"    vldrbt.u8 q{i}, [r{4 + i}]" for i in range(count)),
             *(f"    add     r{4 + i}, r{4 + i}, r{8 + i}" for i in range(count))]
    return mve_function(
        fill("""
            /* Up to 16 channels of columns of lines, interleaved: for each channel a word of one byte of each line.
             * `edges`: columns in front of the image, inside, behind it, bytes from one to the next, and what is
             * outside. */
        """).rstrip(),
        f"void tc_{name}(const int8_t *const *lines, int32_t offset, int8_t *to,\n    const int32_t *edges, "
        "int32_t channels)",
        _COLUMNS.replace("{pointers}", pointers.strip("\n")).replace("{loads}", "\n".join(loads)),
        _COLUMNS_TWIN.replace("{lines}", digit))


_TAPS = f"""
{ENTER}
    sub     sp, sp, #24
    ldrd    r4, r5, [sp, #{24 + FRAME}]                   // count, channels
    ldrd    r9, r10, [r3]                       // bytes from four lines to the next four, channels of y
    ldr     r11, [r3, #8]                       // zero point
    lsl     r4, r4, #1
    cmp     r5, #16
    it      gt
    movgt   r5, #16
    strd    r4, r5, [sp]                        // [sp] twice the count, [sp, 4] channels that are left
    lsl     r8, r10, #2
    strd    r2, r8, [sp, #8]                    // [sp, 8] y, [sp, 12] bytes of four results
    movs    r6, #0
    vidup.u32 q4, r6, #8
    vshl.i32 q4, q4, #3
    add     r0, r0, #{{ahead}}
    vadd.i32 q4, q4, r0                         // addresses of four columns
    movs    r6, #0
    vidup.u32 q5, r6, #1
    vmul.i32 q5, q5, r10
    vsli.32 q5, q5, #16
    vmov.i32 q0, #0x00010000
    vadd.i16 q5, q5, q0                         // where in y the results of pixels and channels go
    mov     r3, #{{step}}                            // bytes of the columns of four results
1:  vmov    q7, q4
    ldr     r7, [sp]
    ldr     r5, [sp, #8]
{{weights}}
2:
{{products}}
    vmov    q0[2], q0[0], r0, r4
    vmov    q0[3], q0[1], r2, r6
    ldrd    r0, r2, [r1, #{{biases}}]
    ldrd    r4, r6, [r1, #{{scales}}]
    vmov    q1[2], q1[0], r8, r12
    vmov    q1[3], q1[1], r10, lr
    ldr     r8, [sp, #12]
    vadd.i32 q0, q0, r0
    vadd.i32 q1, q1, r2
    vcvt.f32.s32 q0, q0
    vcvt.f32.s32 q1, q1
    vmul.f32 q0, q0, r4
    vmul.f32 q1, q1, r6
{narrowing("r11")}
    vctp.16 r7
    vpst
    vstrbt.16 q0, [r5, q5]
    vadd.i32 q7, q7, r3
    add     r5, r5, r8
    subs    r7, r7, #8
    bgt     2b
    ldrd    r4, r5, [sp, #4]                    // the next two channels
    movs    r6, #8
    adds    r5, r5, #2
    add     r1, r1, #{{pair}}
    subs    r4, r4, #2
    ble     3f
    cmp     r4, #1
    itt     eq
    moveq   r6, #4                              // the last two, of which one is done
    subeq   r5, r5, #1
    vadd.i32 q4, q4, r6
    strd    r4, r5, [sp, #4]
    b       1b
3:
    add     sp, sp, #24
{LEAVE}
"""


def _weights(part: int) -> list[str]:
    return [f"vldrw.u32 q2, [r1, #{32 * part}]", f"vldrw.u32 q3, [r1, #{32 * part + 16}]"]


def _products(groups: int, fours: int, stride: int, ahead: int) -> str:
    """Sums of four results and two channels. Where there is one vector of weights for each, they are there already."""
    lines = []
    for group in range(groups):
        base = "q6" if group else "q7"
        if group:
            lines.append("vadd.i32 q6, q7, r9")
        for four in range(fours):
            part = group * fours + four
            lines += _weights(part) if groups * fours > 1 else []
            for pixel in range(4):
                for channel in (0, 1):
                    offset = (pixel * stride + 4 * four) * COLUMN + 4 * channel - ahead
                    lines += [f"vldrw.u32 q{channel}, [{base}, #{offset}]",
                              f"vmladav{'a' if part else ''}.s8 {_SUMS[channel][pixel]}, q{channel}, q{2 + channel}"]
    return _lines(lines)


def _lines(lines: list[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)


_TAPS_TWIN = """
    for (int32_t o = 0; o < channels && o < 16; o++) {
        const int32_t lane = o % 2 == 0 && o + 1 == channels ? 1 : o % 2;
        const uint32_t *pair = stream + o / 2 * {words};
        const int8_t *weight = (const int8_t *)pair + lane * 16;
        const uint32_t *scaling = pair + {words} - 4 + lane;
        for (int32_t pixel = 0; pixel < count; pixel++) {
            uint32_t sum = scaling[0];
            for (int32_t part = 0; part < {parts}; part++) {
                const int8_t *from = columns + part / {fours} * shape[0] + part % {fours} * 256 + o * 4;
                for (int32_t i = 0; i < 16; i++) {
                    const int32_t place = (pixel * {stride} + i / 4) * 64 + i % 4;
                    sum += (uint32_t)(from[place] * weight[part * 32 + i]);
                }
            }
            y[pixel * shape[1] + o] = (int8_t)tc_requantize_high(sum, scaling[2] | 0x80000000u, (uint32_t)shape[2], 0,
                -128, 127);
        }
    }
"""


@family(r"mve_taps_([12])_([12])_([12])")
def taps_text(name: str, *digits: str) -> str:
    """The C of tc_mve_taps_<fours of lines>_<fours of columns>_<stride>."""
    groups, fours, stride = map(int, digits)
    parts = groups * fours
    ahead = max(0, (3 * stride + 4 * (fours - 1)) * COLUMN + 4 - _REACH)
    asm = fill(_TAPS, ahead=ahead, step=4 * stride * COLUMN, products=_products(groups, fours, stride, ahead),
               weights=_lines(_weights(0)) if parts == 1 else "",
               biases=32 * parts, scales=32 * parts + 8, pair=32 * parts + 16)
    twin = fill(_TAPS_TWIN, words=8 * parts + 4, parts=parts, fours=fours, stride=stride)
    return mve_function(
        fill("""
            /* `count` results of up to 16 channels from columns of lines. `shape`: bytes from four lines to the next,
             * channels of y, zero point of y. */
        """).rstrip(),
        f"void tc_{name}(const int8_t *columns, const uint32_t *stream, int8_t *y,\n    const int32_t *shape, "
        "int32_t count, int32_t channels)", asm, twin)


_EIGHT = ("r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr")
_PIXEL = f"""
{ENTER}
    ldr     r5, [sp, #{FRAME}]                       // channels that are left
    ldr     r9, [r3]                            // bytes from four lines to the next four
    ldr     r11, [r3, #8]                       // zero point
    mov     r7, r2
    cmp     r5, #16
    it      gt
    movgt   r5, #16
    movs    r6, #0
    vidup.u32 q4, r6, #8
    vshl.i32 q4, q4, #3
    vadd.i32 q4, q4, r0                         // addresses of four columns
    movs    r6, #0
    vidup.u32 q5, r6, #1
    mov     r3, #{{pair}}
    vmul.i32 q5, q5, r3
    vadd.i32 q5, q5, r1                         // addresses of four pairs of channels in the stream
    lsl     r3, r3, #2
1:
{{products}}
    vmov    q0[2], q0[0], r0, r8
    vmov    q0[3], q0[1], r4, r12
    vmov    q1[2], q1[0], r2, r10
    vmov    q1[3], q1[1], r6, lr
    vldrw.u32 q2, [q5, #{{biases}}]
    vldrw.u32 q3, [q5, #{{biases}} + 4]
    vadd.i32 q0, q0, q2
    vadd.i32 q1, q1, q3
    vldrw.u32 q2, [q5, #{{biases}} + 8]
    vldrw.u32 q3, [q5, #{{biases}} + 12]
    vcvt.f32.s32 q0, q0
    vcvt.f32.s32 q1, q1
    vmul.f32 q0, q0, q2
    vmul.f32 q1, q1, q3
{narrowing("r11")}
    vstrb.16 q0, [r7], #8
    movs    r0, #32
    vadd.i32 q4, q4, r0
    vadd.i32 q5, q5, r3
    add     r1, r1, r3
    subs    r5, r5, #8
    bgt     1b
{LEAVE}
"""


def _pixel_products(groups: int, fours: int) -> str:
    """Sums of eight channels."""
    pair, lines = 32 * groups * fours + 16, []
    for part in range(groups * fours):
        group, four = divmod(part, fours)
        lines += ["vadd.i32 q6, q4, r9"] if group and not four else []
        for channel, register in enumerate(_EIGHT):
            weights = channel // 2 * pair + 32 * part + channel % 2 * 16
            lines += [f"vldrw.u32 q{channel % 2}, [r1, #{weights}]",
                      f"vldrw.u32 q{2 + channel % 2}, [{'q6' if group else 'q4'}, #{4 * channel + 256 * four}]",
                      f"vmladav{'a' if part else ''}.s8 {register}, q{channel % 2}, q{2 + channel % 2}"]
    return _lines(lines)


@family(r"mve_pixel_([12])_([12])")
def pixel_text(name: str, *digits: str) -> str:
    """The C of tc_mve_pixel_<fours of lines>_<fours of columns>, of which one is 1."""
    groups, fours = map(int, digits)
    parts = groups * fours
    asm = fill(_PIXEL, pair=32 * parts + 16, products=_pixel_products(groups, fours), biases=32 * parts)
    return mve_function(
        "/* One result of 8 channels, or of 16 where so many are left: see tc_mve_taps. */",
        f"void tc_{name}(const int8_t *columns, const uint32_t *stream, int8_t *y,\n    const int32_t *shape, "
        "int32_t channels)", asm,
        f"tc_mve_taps_{groups}_{fours}_1(columns, stream, y, shape, 1, channels);\n")

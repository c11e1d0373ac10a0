"""Matrix products with vectors of 16 bytes (MVE): pixels times all output channels.

    tc_mve_run_4(x, stream, y, shape, count)          `count` pixels, any number of output channels from two on
    tc_mve_vector(x, stream, y, shape)                one pixel, any number of output channels

A run goes through four pixels times two output channels at a time: eight sums, as many as there are registers that
VMLADAVA can add to. The suffix says how many steps of 16 inputs the loop over all but the first one is unrolled by; 0
is for pixels of up to 16 inputs, which then stay in vector registers. The last two pixels, or the last one, have loops
of their own; of three the last one is computed twice. `tc_mve_vector` has eight output channels at a time. The stream
is that of `mve_pack`; `shape` holds what `run_shape` says.
"""

from __future__ import annotations

from ..library import family
from ..text import fill
from .mve_text import ENTER, FRAME, LEAVE, mve_function, narrowing

__all__ = ["run_shape", "run_text", "unrolled", "vector_text", "windows_text"]

_PIXELS = ("r0", "r2", "r4", "r6"), ("r8", "r10", "r12", "lr")
_POINTERS = ("r3", "r5", "r7", "r9")
_UNROLL = (4, 3, 2, 1)


def run_shape(inputs: int, pitch: int, outputs: int, zero: int) -> str:
    """C initialiser of `shape`: bytes from pixel to pixel, where the first sixteen inputs begin, which of them are
    there, steps behind the first one, output channels, zero point of y.
    """
    steps = -(-inputs // 16)
    back = inputs - 16 * steps
    return "{" + ", ".join(map(str, (pitch, back, 0xFFFF << -back & 0xFFFF, steps - 1, outputs, zero))) + "}"


def unrolled(inputs: int) -> int:
    """How many steps the loop of a run is unrolled by."""
    rest = -(-inputs // 16) - 1
    return next((size for size in _UNROLL if rest and rest % size == 0), 0)


_ENTER_RUN = f"""
{ENTER}
    sub     sp, sp, #56
    ldr     r4, [sp, #{56 + FRAME}]                       // count
    ldrd    r5, r6, [r3]                        // pitch, where the first inputs begin
    ldrd    r7, r8, [r3, #8]                    // mask, steps
    ldrd    r9, r10, [r3, #16]                  // outputs, zero point
    str     r8, [sp, #16]                       // [sp] pointers to four pixels, [sp, 16] steps
    add     r0, r0, r6
    strd    r4, r5, [sp, #28]                   // [sp, 28] pixels that are left, [sp, 32] pitch
    strd    r0, r2, [sp, #36]                   // [sp, 36] x, [sp, 40] y of the next pixels
    strd    r1, r9, [sp, #44]                   // [sp, 44] stream, [sp, 48] outputs
    vmsr    p0, r7
    vdup.16 q6, r10
    movs    r6, #0
    vidup.u32 q7, r6, #1
    vmul.i32 q7, q7, r9
    vsli.32 q7, q7, #16
    vmov.i32 q0, #0x00010000
    vadd.i16 q7, q7, q0                         // where in y the results of pixels and channels go
1:                                              // four pixels, or what is left
    ldrd    r4, r5, [sp, #28]
    ldrd    r6, r2, [sp, #36]
    ldrd    r1, r9, [sp, #44]
    cmp     r4, #4
    blt     7f
    add     r7, r6, r5
    add     r8, r7, r5
    add     r10, r8, r5
    add     r11, r10, r5
2:  stm     sp, {{r6, r7, r8, r10}}
    lsr     r0, r9, #1
    add     r0, r2, r0, lsl #1
    strd    r2, r0, [sp, #20]                   // [sp, 20] y of the first pixel, [sp, 24] its end
    add     r2, r2, r9, lsl #2
    strd    r11, r2, [sp, #36]
    subs    r4, r4, #4
    str     r4, [sp, #28]
    adds    r4, r4, #2
    beq     42f
    blt     41f
"""
_NEXT_PIXELS = """
    ldr     r2, [sp, #40]                       // y of the next pixels
    ldr     r9, [sp, #48]
    sub     r2, r2, r9, lsl #2
    add     r2, r2, r9
    cmp     r8, r2
    beq     6f
    subs    r8, r8, #1                          // the last two channels, of which one is done
    strd    r8, r2, [sp, #20]
    b       {again}b
"""
_LEAVE_RUN = f"""
6:  ldr     r4, [sp, #28]
    cmp     r4, #0
    bgt     1b
    add     sp, sp, #56
{LEAVE}
7:  mov     r7, r6                              // the last of less than four pixels again
    cmp     r4, #1
    it      gt
    addgt   r7, r6, r5
    mov     r8, r7
    cmp     r4, #2
    it      gt
    addgt   r8, r7, r5
    mov     r10, r8
    sub     r0, r4, #1
    mul     r0, r0, r9
    vmov.i32 q0, #0x00010000
    vadd.i16 q0, q0, r0
    vmin.u16 q7, q7, q0
    b       2b
"""
_STORE = f"""
    ldm     r1!, {{r0, r2, r4, r6}}               // biases and scales
    {{second}}
    ldrd    r8, r10, [sp, #20]
    vadd.i32 q0, q0, r0
    vadd.i32 q1, q1, r2
    vcvt.f32.s32 q0, q0
    vcvt.f32.s32 q1, q1
    vmul.f32 q0, q0, r4
    vmul.f32 q1, q1, r6
{narrowing("q6")}
    vstrb.16 q0, [r8, q7]
    adds    r8, r8, #2
    str     r8, [sp, #20]
    cmp     r8, r10
    bne     {{again}}b
"""


def _step(pixels: int) -> str:
    """16 inputs of pixels and two channels."""
    lines = ["vldrb.u8 q0, [r1], #16", "vldrb.u8 q1, [r1], #16"]
    for pixel, pointer in enumerate(_POINTERS[:pixels]):
        lines += [f"vldrb.u8 q{2 + pixel}, [{pointer}], #16"]
        lines += [f"vmladava.s8 {_PIXELS[channel][pixel]}, q{channel}, q{2 + pixel}" for channel in (0, 1)]
    return _lines(lines)


def _first_step(pixels: int) -> str:
    """The first 16 inputs."""
    return _lines([f"vmladav.s8 {_PIXELS[channel][pixel]}, q{channel}, q{2 + pixel}"
                   for pixel in range(pixels) for channel in (0, 1)])


def _first_loads(pixels: int) -> str:
    """The first 16 inputs of pixels, of which some may not be there."""
    return _lines([f"vps{'t' * pixels}",
                   *(f"vldrbt.u8 q{2 + i}, [{pointer}], #16" for i, pointer in enumerate(_POINTERS[:pixels]))])


def _vector_of(vector: int, sums: tuple[str, ...]) -> str:
    """Instructions that make a vector of sums, the last one again where there are less than four."""
    low, high, third, fourth = (sums[min(i, len(sums) - 1)] for i in range(4))
    return _lines([f"vmov    q{vector}[2], q{vector}[0], {low}, {third}",
                   f"vmov    q{vector}[3], q{vector}[1], {high}, {fourth}"])


def _lines(lines: list[str]) -> str:
    return "\n".join(f"    {line}" for line in lines) + "\n"


def _pixels_text(pixels: int, unroll: int) -> str:
    """All output channels of so many pixels."""
    again, loop = 40 + pixels, 50 + pixels
    weights = _lines(["vldrb.u8 q0, [r1], #16", "vldrb.u8 q1, [r1], #16"])
    loads = _first_loads(pixels)
    if unroll == 0:
        text = f"{40 + pixels}:\n" if pixels < 4 else ""
        again = 50 + pixels
        text += f"    ldm     sp, {{r3, r5, r7, r9}}\n{loads}{again}:\n{weights}{_first_step(pixels)}"
    else:
        text = f"{again}:\n    ldm     sp, {{r3, r5, r7, r9, r11}}\n{weights}{loads}{_first_step(pixels)}{loop}:\n"
        text += f"{_step(pixels) * unroll}    subs    r11, r11, #{unroll}\n    bne     {loop}b\n"
    first, second = (_vector_of(i, _PIXELS[i][:pixels]) for i in (0, 1))
    store = _STORE.replace("    {second}\n", second) + _NEXT_PIXELS
    return text + first + store.replace("{again}", str(again))


_TWIN = """
    const int32_t steps = shape[3] + 1;
    const int32_t skip = -shape[1];
    const int32_t outputs = shape[4];
    for (int32_t pixel = 0; pixel < count; pixel++, x += shape[0], y += outputs) {
        const uint32_t *group = stream;
        for (int32_t o = 0; o < outputs; o += 2, group += 8 * steps + 4) {
            const int8_t *weight = (const int8_t *)group;
            const uint32_t *scaling = group + 8 * steps;
            const int32_t first = o + 2 <= outputs ? o : outputs - 2;
            for (int32_t lane = 0; lane < 2; lane++) {
                uint32_t sum = scaling[lane];
                for (int32_t k = skip; k < 16 * steps; k++) {
                    sum += (uint32_t)(x[k - skip] * weight[k / 16 * 32 + lane * 16 + k % 16]);
                }
                y[first + lane] = (int8_t)tc_requantize_high(sum, scaling[2 + lane] | 0x80000000u,
                    (uint32_t)shape[5], 0, -128, 127);
            }
        }
    }
"""


@family(r"mve_run_([0-4])")
def run_text(name: str, digit: str) -> str:
    """The C of tc_mve_run_<steps>."""
    unroll = int(digit)
    body = "".join(_pixels_text(pixels, unroll) for pixels in (4, 2, 1))
    inputs = "up to 16 inputs" if unroll == 0 else f"16 inputs and some more, {unroll} times 16 at a time"
    return mve_function(
        f"/* `count` pixels of {inputs}, times all output channels: see the stream. */",
        f"void tc_{name}(const int8_t *x, const uint32_t *stream, int8_t *y, const int32_t *shape,\n    int32_t count)",
        _ENTER_RUN + body + _LEAVE_RUN, _TWIN)


_SUMS = ("r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr")


def _vector_step(*, first: bool) -> str:
    """16 inputs times eight channels."""
    lines = ["vpst", "vldrbt.u8 q7, [r3], #16"] if first else ["vldrb.u8 q7, [r3], #16"]
    for index, register in enumerate(_SUMS):
        lines += [f"vldrb.u8 q{index % 2}, [r1], #16",
                  f"vmladav{'' if first else 'a'}.s8 {register}, q{index % 2}, q7"]
    return _lines(lines)


_VECTOR = f"""
{ENTER}
    sub     sp, sp, #16
    ldrd    r5, r6, [r3, #4]                    // where the first inputs begin, mask
    ldrd    r7, r8, [r3, #12]                   // steps, outputs
    ldr     r10, [r3, #20]
    add     r0, r0, r5
    strd    r0, r6, [sp]                        // [sp] x, [sp, 4] mask
    mov     r5, r2                              // y
    mov     r9, r8                              // outputs that are left
    str     r7, [sp, #8]                        // [sp, 8] steps
    vdup.16 q6, r10
1:  ldrd    r3, r7, [sp]
    ldr     r11, [sp, #8]
    vmsr    p0, r7
{_vector_step(first=True)}
    cmp     r11, #0
    beq     3f
    tst     r11, #1
    beq     2f
{_vector_step(first=False)}
    subs    r11, r11, #1
    beq     3f
2:
{_vector_step(first=False) * 2}
    subs    r11, r11, #2
    bne     2b
3:  vmov    q0[2], q0[0], r0, r8
    vmov    q0[3], q0[1], r4, r12
    vmov    q1[2], q1[0], r2, r10
    vmov    q1[3], q1[1], r6, lr
    vldrw.u32 q2, [r1], #16                     // biases and scales
    vldrw.u32 q3, [r1], #16
    vldrw.u32 q4, [r1], #16
    vldrw.u32 q5, [r1], #16
    vadd.i32 q0, q0, q2
    vadd.i32 q1, q1, q3
    vcvt.f32.s32 q0, q0
    vcvt.f32.s32 q1, q1
    vmul.f32 q0, q0, q4
    vmul.f32 q1, q1, q5
{narrowing("q6")}
    vctp.16 r9
    vpst
    vstrbt.16 q0, [r5], #8
    subs    r9, r9, #8
    bgt     1b
    add     sp, sp, #16
{LEAVE}
"""

_VECTOR_TWIN = """
    const int32_t steps = shape[3] + 1;
    const int32_t skip = -shape[1];
    for (int32_t o = 0; o < shape[4]; o++) {
        const uint32_t *group = stream + o / 8 * (32 * steps + 16);
        const int8_t *weight = (const int8_t *)group + o % 8 * 16;
        const uint32_t *scaling = group + 32 * steps + o % 2 * 4 + o % 8 / 2;
        uint32_t sum = scaling[0];
        for (int32_t k = skip; k < 16 * steps; k++) {
            sum += (uint32_t)(x[k - skip] * weight[k / 16 * 128 + k % 16]);
        }
        y[o] = (int8_t)tc_requantize_high(sum, scaling[8] | 0x80000000u, (uint32_t)shape[5], 0, -128, 127);
    }
"""


@family(r"mve_vector")
def vector_text(name: str) -> str:
    """The C of tc_mve_vector."""
    return mve_function(
        "/* One pixel times all output channels, eight at a time: see the stream. */",
        f"void tc_{name}(const int8_t *x, const uint32_t *stream, int8_t *y, const int32_t *shape)",
        _VECTOR, _VECTOR_TWIN)


_WINDOWS = """
    push    {r4-r11, lr}
    ldr     r9, [sp, #36]                       // windows
    ldr     r12, [sp, #40]                      // whether all lines are there
    ldrd    r4, r5, [r3]                        // lines, length
    ldrd    r7, r8, [r3, #8]                    // limit, what is outside
    vdup.8  q1, r8
    ldr     r8, [r3, #16]                       // step
    vctp.8  r5
1:  cmp     r12, #0
    beq     6f
    cmp     r1, #0
    blt     6f
    add     r6, r1, r5
    cmp     r6, r7
    bgt     6f
    mov     r10, r0                             // a window inside
    cmp     r5, #16
    bgt     4f
    dls     lr, r4
2:  ldr     r6, [r10], #4
    add     r6, r6, r1
    vpstt
    vldrbt.u8 q0, [r6]
    vstrbt.8 q0, [r2]
    add     r2, r2, r5
    le      lr, 2b
3:  add     r1, r1, r8
    subs    r9, r9, #1
    bne     1b
    pop     {r4-r11, pc}
4:  mov     r11, r4                             // its lines are more than a vector
5:  ldr     r6, [r10], #4
    mov     r3, r2
    add     r6, r6, r1
    dlstp.8 lr, r5
8:  vldrb.u8 q0, [r6], #16
    vstrb.8 q0, [r3], #16
    letp    lr, 8b
    add     r2, r2, r5
    subs    r11, r11, #1
    bne     5b
    b       3b
6:  push    {r0, r1, r4, r9, r12}               // a window at the border
    rsbs    r9, r1, #0                          // bytes in front of the image
    it      lt
    movlt   r9, #0
    cmp     r9, r5
    it      gt
    movgt   r9, r5
    add     r12, r1, r5
    subs    r12, r12, r7                        // bytes behind it
    it      lt
    movlt   r12, #0
    cmp     r12, r5
    it      gt
    movgt   r12, r5
    sub     r11, r5, r9
    sub     r11, r11, r12                       // bytes inside
    add     r1, r1, r9
7:  ldr     r6, [r0], #4
    mov     r3, r2                              // a line of the zero point
    dlstp.8 lr, r5
8:  vstrb.8 q1, [r3], #16
    letp    lr, 8b
    cbz     r6, 9f
    add     r6, r6, r1
    add     r3, r2, r9
    wlstp.8 lr, r11, 9f                         // and over it what is inside
8:  vldrb.u8 q0, [r6], #16
    vstrb.8 q0, [r3], #16
    letp    lr, 8b
9:  add     r2, r2, r5
    subs    r4, r4, #1
    bne     7b
    pop     {r0, r1, r4, r9, r12}
    b       3b
"""

_WINDOWS_TWIN = """
    (void)whole;
    for (int32_t i = 0; i < count; i++, first += shape[4]) {
        for (int32_t row = 0; row < shape[0]; row++) {
            for (int32_t k = first; k < first + shape[1]; k++) {
                *to++ = lines[row] != NULL && k >= 0 && k < shape[2] ? lines[row][k] : (int8_t)shape[3];
            }
        }
    }
"""


@family(r"mve_windows")
def windows_text(name: str) -> str:
    """The C of tc_mve_windows."""
    return mve_function(
        fill("""
            /* Windows of `count` pixels behind each other: of each line the bytes from `first` on, from `first` and a
             * step on, and so on. `shape`: lines, bytes of each in a window, bytes of a line, what stands for those
             * outside, step. Lines that are not `whole`, all there, may be NULL. */
        """).rstrip(),
        f"void tc_{name}(const int8_t *const *lines, int32_t first, int8_t *to, const int32_t *shape,\n"
        "    int32_t count, int32_t whole)", _WINDOWS, _WINDOWS_TWIN)

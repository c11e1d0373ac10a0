/* Square root, correctly rounded: the instruction of the core, else one bit of the result after the other. The compiler's
 * own builtin may call the library, to set errno. */
static inline float tc_sqrt(float x)
{
    float root;
#if defined(__SSE__)
    __asm__("sqrtss %1, %0" : "=x"(root) : "x"(x));
#elif defined(__aarch64__)
    __asm__("fsqrt %s0, %s1" : "=w"(root) : "w"(x));
#elif defined(__ARM_FP) && (__ARM_FP & 4)
    __asm__("vsqrt.f32 %0, %1" : "=t"(root) : "t"(x));
#elif defined(__riscv_flen)
    __asm__("fsqrt.s %0, %1" : "=f"(root) : "f"(x));
#else
    if (!(x > 0.0f && x < __builtin_inff())) {
        return x == 0.0f || x > 0.0f ? x : __builtin_nanf("");
    }
    const int32_t tiny = x < 1.17549435e-38f; /* denormal numbers are scaled by 2^24 */
    const uint32_t bits = tc_to_bits(tiny ? x * 16777216.0f : x);
    const int32_t exponent = (int32_t)(bits >> 23) - 127 - (tiny ? 24 : 0);
    const int32_t odd = exponent & 1;
    /* The root of a 24-bit number m, shifted left by 24 or 25 bits, has 24 or 25 bits: the last is for rounding. */
    const uint64_t m = (uint64_t)((bits & 0x7fffffu) | 0x800000u) << (odd ? 26 : 25);
    uint32_t r = 0;
    for (uint32_t bit = UINT32_C(1) << 25; bit != 0u; bit >>= 1) {
        const uint64_t trial = r | bit;
        r = trial * trial <= m ? r | bit : r;
    }
    /* r = floor(sqrt(m)) has 25 bits; the root of a float is never half way between two floats. */
    root = tc_from_bits(((uint32_t)((exponent - odd) / 2 + 126) << 23) + ((r + 1u) >> 1));
#endif
    return root;
}

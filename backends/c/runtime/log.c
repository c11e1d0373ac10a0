/* Natural logarithm, within 1 ulp; -infinity at 0, NaN below. x = 2^e * (1 + f) with sqrt(1/2) <= 1 + f < sqrt(2), and
 * log(1 + f) = f - f^2 / 2 + f^3 * q(f). */
static inline float tc_log(float x)
{
    const int32_t tiny = x < 1.17549435e-38f; /* denormal numbers are scaled by 2^24 */
    const uint32_t bits = tc_to_bits(tiny ? x * 16777216.0f : x);
    const int32_t shifted = (int32_t)(bits - 0x3f3504f3u); /* 0x3f3504f3 is sqrt(1/2) */
    const int32_t e = shifted >> 23;
    const float f = tc_from_bits(bits - ((uint32_t)e << 23)) - 1.0f;
    const float n = (float)(tiny ? e - 24 : e);
    const float q = 0.33333313f + f * (-0.2500001f + f * (0.20002125f + f * (-0.16668023f + f * (0.14219461f
        + f * (-0.12405127f + f * (0.118883185f + f * (-0.11678142f + f * 0.067491904f)))))));
    const float tail = f * f * (f * q) + n * -2.12194440e-4f;
    const float value = n * 0.693359375f + (f + (tail - 0.5f * f * f));
    return x > 0.0f ? (x < __builtin_inff() ? value : x) : x == 0.0f ? -__builtin_inff() : __builtin_nanf("");
}

/* e to the power x, within 1 ulp. With n the whole number next to x / log(2) and r = x - n * log(2), |r| <= 0.35, it is
 * 2^n * e^r; e^r = 1 + r + r^2 * q(r). 2^n is applied in two halves, so that results may be denormal or infinite. */
static inline float tc_exp(float x)
{
    const float most = x < 89.0f ? x : 89.0f; /* NaN becomes 89, which converts to an integer */
    const float v = most > -104.0f ? most : -104.0f;
    const int32_t n = (int32_t)(v * 1.44269504f + (v < 0.0f ? -0.5f : 0.5f));
    const float r = (v - (float)n * 0.693359375f) - (float)n * -2.12194440e-4f;
    const float q = 0.5f + r * (0.16666515f + r * (0.041666195f + r * (0.008369284f + r * 0.0013951119f)));
    const float power = 1.0f + (r + r * r * q);
    const int32_t half = n / 2;
    const float scaled = power * tc_from_bits((uint32_t)(half + 127) << 23) * tc_from_bits((uint32_t)(n - half + 127) << 23);
    return x != x ? x : scaled;
}

/* x to the power y, within 1 ulp, as 2^(y * log2(|x|)) in double; special values as in C99. */
static float tc_pow(float x, float y)
{
    const float infinity = __builtin_inff();
    const float size = x < 0.0f ? -x : x;
    const int32_t large = !(y > -16777216.0f && y < 16777216.0f); /* then y is even, infinite or NaN */
    const int32_t whole = large ? 0 : (int32_t)y;
    const int32_t odd = whole & 1 && (float)whole == y;
    const int32_t negative = odd && (tc_to_bits(x) >> 31) != 0u;
    if (y == 0.0f || x == 1.0f) {
        return 1.0f;
    }
    if (x != x || y != y) {
        return x + y;
    }
    if (x < 0.0f && x > -infinity && !large && (float)whole != y) {
        return __builtin_nanf("");
    }
    if (size == 1.0f) {
        return negative ? -1.0f : 1.0f;
    }
    if (size == 0.0f || size == infinity || y == infinity || y == -infinity) {
        const float limit = (size > 1.0f) == (y > 0.0f) ? infinity : 0.0f;
        return negative ? -limit : limit;
    }
    /* |x| = 2^e * m with sqrt(1/2) <= m < sqrt(2), and log(m) = 2 * atanh(s), s = (m - 1) / (m + 1). */
    const int32_t tiny = size < 1.17549435e-38f;
    const uint32_t bits = tc_to_bits(tiny ? size * 16777216.0f : size);
    const int32_t e = (int32_t)(bits - 0x3f3504f3u) >> 23;
    const double m = (double)tc_from_bits(bits - ((uint32_t)e << 23));
    const double s = (m - 1.0) / (m + 1.0);
    const double z = s * s;
    const double series = 1.0 + z * (1.0 / 3 + z * (1.0 / 5 + z * (1.0 / 7 + z * (1.0 / 9 + z * (1.0 / 11 + z * (1.0 / 13
        + z * (1.0 / 15)))))));
    const double log2 = (double)(tiny ? e - 24 : e) + 2.8853900817779268 * s * series;
    const double wanted = (double)y * log2;
    const double t = wanted < 160.0 ? (wanted > -160.0 ? wanted : -160.0) : 160.0;
    const int32_t n = (int32_t)(t < 0.0 ? t - 0.5 : t + 0.5);
    const double f = (t - (double)n) * 0.69314718055994531;
    const double power = 1.0 + f * (1.0 + f * (1.0 / 2 + f * (1.0 / 6 + f * (1.0 / 24 + f * (1.0 / 120 + f * (1.0 / 720
        + f * (1.0 / 5040 + f * (1.0 / 40320 + f * (1.0 / 362880)))))))));
    union { uint64_t bits; double value; } scale;
    scale.bits = (uint64_t)(n + 1023) << 52;
    const float result = (float)(power * scale.value);
    return negative ? -result : result;
}

/* Hyperbolic tangent, within 2 ulp: an odd polynomial below 0.6, 1 - 2 / (e^2x + 1) above. */
static inline float tc_tanh(float x)
{
    const float size = x < 0.0f ? -x : x;
    const float s = x * x;
    const float odd = x + x * s * (-0.333333f + s * (0.13331923f + s * (-0.053783778f
        + s * (0.02079581f + s * -0.005894979f))));
    const float large = 1.0f - 2.0f / (tc_exp(2.0f * size) + 1.0f);
    return size < 0.6f ? odd : x < 0.0f ? -large : large;
}

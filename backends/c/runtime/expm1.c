/* e to the power x, minus 1, within 2 ulp: a polynomial where the subtraction would cancel, |x| < 0.7. */
static inline float tc_expm1(float x)
{
    const float low = 0.16666672f + x * (0.04166664f + x * (0.00833264f
        + x * (0.0013889895f + x * (0.00020095427f + x * 2.4826297e-5f))));
    return x > -0.7f && x < 0.7f ? x + x * x * (0.5f + x * low) : tc_exp(x) - 1.0f;
}

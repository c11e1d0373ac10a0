/* x times the normal distribution function at x. */
static inline float tc_gelu(float x)
{
    return 0.5f * x * (1.0f + tc_erf(x * 0.707106781f));
}

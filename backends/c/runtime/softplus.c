/* log(1 + e^x), without overflow. */
static inline float tc_softplus(float x)
{
    return (x > 0.0f ? x : 0.0f) + tc_log1p(tc_exp(x < 0.0f ? x : -x));
}

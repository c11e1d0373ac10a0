/* log(1 + x) for finite x >= 0: the logarithm of the rounded sum, and what the rounding lost. */
static inline float tc_log1p(float x)
{
    const float sum = 1.0f + x;
    return tc_log(sum) + (x - (sum - 1.0f)) / sum;
}

/* -1, 0 or 1; NaN stays NaN. */
static inline float tc_sign(float x)
{
    return x != x ? x : (float)((x > 0.0f) - (x < 0.0f));
}

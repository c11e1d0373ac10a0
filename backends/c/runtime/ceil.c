/* The least whole number that is not below x. */
static inline float tc_ceil(float x)
{
    if (tc_is_whole(x)) {
        return x;
    }
    const float whole = (float)(int32_t)x;
    return whole < x ? whole + 1.0f : whole;
}

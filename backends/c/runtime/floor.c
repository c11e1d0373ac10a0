/* The greatest whole number that is not above x. */
static inline float tc_floor(float x)
{
    if (tc_is_whole(x)) {
        return x;
    }
    const float whole = (float)(int32_t)x;
    return whole > x ? whole - 1.0f : whole;
}

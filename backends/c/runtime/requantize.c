/* (sum * multiplier + rounding) >> shift, at least low and at most high; shift is 32 or more. */
static inline __attribute__((unused)) int32_t tc_requantize(int32_t sum, int32_t multiplier, int64_t rounding,
    int32_t shift, int32_t low, int32_t high)
{
    const int32_t value = (int32_t)(((int64_t)sum * multiplier + rounding) >> shift);
    return value < low ? low : value > high ? high : value;
}

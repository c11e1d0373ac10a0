/* (sum * multiplier + rounding) >> shift, at least 0 and at most `most`; shift is 32 or more. */
static inline __attribute__((unused)) int32_t tc_requantize(int32_t sum, int32_t multiplier, int64_t rounding,
    int32_t shift, int32_t most)
{
    const int32_t value = (int32_t)(((int64_t)sum * multiplier + rounding) >> shift);
    return value < 0 ? 0 : value > most ? most : value;
}

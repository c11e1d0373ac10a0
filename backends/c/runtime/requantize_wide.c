/* (sum * multiplier + rounding) >> shift, at least 0 and at most `most`; for shifts below 32. */
static inline __attribute__((unused)) int32_t tc_requantize_wide(int32_t sum, int32_t multiplier, int64_t rounding,
    int32_t shift, int32_t most)
{
    const int64_t value = ((int64_t)sum * multiplier + rounding) >> shift;
    return value < 0 ? 0 : value > most ? most : (int32_t)value;
}

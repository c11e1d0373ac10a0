/* value, but at least low and at most high. */
static inline __attribute__((unused)) int32_t tc_clamp(int32_t value, int32_t low, int32_t high)
{
    return value < low ? low : value > high ? high : value;
}

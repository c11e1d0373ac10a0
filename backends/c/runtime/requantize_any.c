/* Requantisation of a channel of either kind, at least low and at most high. A multiplier that is not negative has been
 * proved: (sum * multiplier + rounding) >> shift. Else the product in single precision is computed with integers:
 * -multiplier is the significand of the scale, `rounding` its exponent. */
static inline __attribute__((unused)) int32_t tc_requantize_any(int32_t sum, int32_t multiplier, int64_t rounding,
    int32_t shift, int32_t zero, int32_t low, int32_t high)
{
    if (multiplier >= 0) {
        return shift < 32 ? tc_requantize_wide(sum, multiplier, rounding, shift, low, high)
                          : tc_requantize(sum, multiplier, rounding, shift, low, high);
    }
    const int32_t value = zero + tc_scale_single(sum, (uint32_t)-multiplier, (int32_t)rounding);
    return value < low ? low : value > high ? high : value;
}

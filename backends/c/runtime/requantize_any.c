/* Requantisation of a channel of either kind, at least 0 and at most `most`. A multiplier that is not negative has been
 * proved: (sum * multiplier + rounding) >> shift. Else -multiplier is the significand of the scale and `rounding` its
 * exponent, and the product in single precision is computed with integers. */
static inline __attribute__((unused)) int32_t tc_requantize_any(int32_t sum, int32_t multiplier, int64_t rounding,
    int32_t shift, int32_t zero, int32_t most)
{
    if (multiplier < 0) {
        return tc_requantize_single(sum, (uint32_t)-multiplier, (int32_t)rounding, zero, most);
    }
    return shift < 32 ? tc_requantize_wide(sum, multiplier, rounding, shift, most)
                      : tc_requantize(sum, multiplier, rounding, shift, most);
}

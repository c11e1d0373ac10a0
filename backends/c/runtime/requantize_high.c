/* (rounding + the high word of sum * multiplier) >> shift, at least low and at most high: SMMLA and SSAT. A negative
 * multiplier is the encoding of minus a scale in single precision, and `rounding` the zero point: then sum * scale is
 * rounded as the core rounds floats, ties to even. */
static inline __attribute__((unused)) int32_t tc_requantize_high(uint32_t sum, uint32_t multiplier, uint32_t rounding,
    int32_t shift, int32_t low, int32_t high)
{
    const int64_t wide = (int32_t)sum;
    if (multiplier < 0x80000000u) {
        const int32_t part = (int32_t)((wide * (int32_t)multiplier) >> 32) + (int32_t)rounding;
        return tc_clamp(part >> shift, low, high);
    }
    const uint64_t significand = (multiplier & 0x7FFFFFu) | 0x800000u;
    const int32_t exponent = 150 - (int32_t)((multiplier >> 23) & 0xFFu);
    const uint64_t product = tc_round_24(tc_round_24((uint64_t)(wide < 0 ? -wide : wide)) * significand);
    const int64_t whole = (int64_t)tc_halve_to_even(product, exponent);
    return (int32_t)tc_clamp_wide((wide < 0 ? -whole : whole) + (int32_t)rounding, low, high);
}

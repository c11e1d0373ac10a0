/* What single precision makes of sum * (significand / 2^shift), rounded to a whole number, ties to even: the sum and the
 * product are each rounded to 24 binary digits on the way. Below 2^30 in magnitude: more is cut off. */
static __attribute__((noinline, unused)) int32_t tc_scale_single(int32_t sum, uint32_t significand, int32_t shift)
{
    const uint64_t size = sum < 0 ? UINT64_C(0) - (uint64_t)sum : (uint64_t)sum;
    const uint64_t product = tc_round_24(tc_round_24(size) * significand);
    const uint64_t whole = tc_halve_to_even(product, shift);
    const int32_t value = whole < (UINT64_C(1) << 30) ? (int32_t)whole : 1 << 30;
    return sum < 0 ? -value : value;
}

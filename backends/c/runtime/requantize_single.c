/* What single precision makes of sum * (significand / 2^shift), rounded to a whole number, ties to even, plus zero: the
 * sum and the product are each rounded to 24 binary digits on the way. At least 0 and at most `most`. */
static __attribute__((noinline, unused)) int32_t tc_requantize_single(int32_t sum, uint32_t significand, int32_t shift,
    int32_t zero, int32_t most)
{
    const uint64_t size = sum < 0 ? UINT64_C(0) - (uint64_t)sum : (uint64_t)sum;
    const int64_t whole = (int64_t)tc_halve_to_even(tc_round_24(tc_round_24(size) * significand), shift);
    return tc_clamp_wide((sum < 0 ? -whole : whole) + zero, 0, most);
}

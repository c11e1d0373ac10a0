/* What single precision makes of total / 2^shift, rounded to a whole number, ties to even: the total is rounded to 24
 * binary digits on the way. At least low and at most high. */
static __attribute__((noinline, unused)) int32_t tc_sum_single(int64_t total, int32_t shift, int32_t low, int32_t high)
{
    const uint64_t size = total < 0 ? UINT64_C(0) - (uint64_t)total : (uint64_t)total;
    const int64_t whole = (int64_t)tc_halve_to_even(tc_round_24(size), shift);
    return tc_clamp_wide(total < 0 ? -whole : whole, low, high);
}

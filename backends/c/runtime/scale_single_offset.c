/* What single precision makes of product * (significand / 2^shift) + zero, rounded to a whole number, ties to even: the
 * scaled product and the sum are each rounded to 24 binary digits on the way. |product| is below 2^17; the result is at
 * least low and at most high. */
static __attribute__((noinline, unused)) int32_t tc_scale_single_offset(int32_t product, uint32_t significand,
    int32_t shift, int32_t zero, int32_t low, int32_t high)
{
    const uint64_t size = (uint64_t)(product < 0 ? -product : product);
    const int64_t scaled = shift > 42 ? 0 : (int64_t)tc_round_24(size * significand);
    const int32_t digits = shift > 42 ? 42 : shift;
    return tc_sum_single((product < 0 ? -scaled : scaled) + zero * (INT64_C(1) << digits), digits, low, high);
}

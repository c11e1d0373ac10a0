/* An encoded float rounded to a whole number, ties to even, plus zero; at least low and at most high. */
static __attribute__((noinline, unused)) int32_t tc_soft_quantized(uint32_t x, int32_t zero, int32_t low, int32_t high)
{
    const int32_t places = -tc_soft_exponent(x);
    int32_t whole = 1 << 23; /* beyond every range */
    if (places > 62) {
        whole = 0;
    } else if (places > 0) {
        whole = (int32_t)tc_halve_to_even(tc_soft_significand(x), places);
    }
    return tc_clamp((x >> 31 != 0u ? -whole : whole) + zero, low, high);
}

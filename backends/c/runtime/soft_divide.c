/* a / b of encoded floats; b is finite and not 0, infinity stays infinity. */
static __attribute__((noinline, unused)) uint32_t tc_soft_divide(uint32_t a, uint32_t b)
{
    if ((a & 0x7FFFFFFFu) == 0x7F800000u) {
        return a ^ (b & 0x80000000u);
    }
    uint64_t dividend = tc_soft_significand(a);
    int32_t exponent = tc_soft_exponent(a) - tc_soft_exponent(b);
    if (dividend == 0u) {
        return (a ^ b) & 0x80000000u;
    }
    while (dividend >> 62 == 0u) {
        dividend <<= 1;
        exponent--;
    }
    const uint64_t divisor = tc_soft_significand(b);
    const uint64_t quotient = dividend / divisor;
    return tc_soft_pack((a ^ b) >> 31, exponent, quotient | (quotient * divisor != dividend));
}

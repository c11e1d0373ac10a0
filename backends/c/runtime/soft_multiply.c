/* a * b of encoded finite floats. */
static __attribute__((noinline, unused)) uint32_t tc_soft_multiply(uint32_t a, uint32_t b)
{
    const uint64_t product = (uint64_t)tc_soft_significand(a) * tc_soft_significand(b);
    return tc_soft_pack((a ^ b) >> 31, tc_soft_exponent(a) + tc_soft_exponent(b), product);
}

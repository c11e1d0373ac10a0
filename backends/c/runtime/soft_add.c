/* a + b of encoded finite floats. */
static __attribute__((noinline, unused)) uint32_t tc_soft_add(uint32_t a, uint32_t b)
{
    const int32_t apart = tc_soft_exponent(a) - tc_soft_exponent(b);
    const uint32_t large = apart < 0 ? b : a;
    const uint32_t small = apart < 0 ? a : b;
    const int32_t distance = apart < 0 ? -apart : apart;
    const uint64_t first = (uint64_t)tc_soft_significand(large) << 38;
    const uint64_t whole = (uint64_t)tc_soft_significand(small) << 38;
    uint64_t second = distance > 62 ? 0u : whole >> distance;
    if (distance > 62 ? whole != 0u : second << distance != whole) {
        second |= 1u; /* what was shifted out decides ties only */
    }
    const int64_t sum = (large >> 31 != 0u ? -(int64_t)first : (int64_t)first)
        + (small >> 31 != 0u ? -(int64_t)second : (int64_t)second);
    const uint64_t size = sum < 0 ? UINT64_C(0) - (uint64_t)sum : (uint64_t)sum;
    return tc_soft_pack(sum < 0, tc_soft_exponent(large) - 38, size);
}

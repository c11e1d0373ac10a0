/* value / 2^shift rounded to a whole number, ties to even; shift is 0 to 62. */
static inline __attribute__((unused)) uint64_t tc_halve_to_even(uint64_t value, int32_t shift)
{
    if (shift <= 0) {
        return value;
    }
    const uint64_t odd = (value >> shift) & 1u;
    return (value + ((UINT64_C(1) << (shift - 1)) - 1u) + odd) >> shift;
}

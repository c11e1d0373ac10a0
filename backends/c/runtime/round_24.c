/* value rounded to 24 binary digits, ties to even: what becomes of a whole number that is stored as a float. */
static inline __attribute__((unused)) uint64_t tc_round_24(uint64_t value)
{
    const int32_t drop = tc_bits_above(value, 24);
    return tc_halve_to_even(value, drop) << drop;
}

/* x without its sign. */
static inline float tc_abs(float x)
{
    return tc_from_bits(tc_to_bits(x) & 0x7fffffffu);
}

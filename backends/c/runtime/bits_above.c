/* How many binary digits value has beyond `digits`; 0 if it has fewer. */
static inline __attribute__((unused)) int32_t tc_bits_above(uint64_t value, int32_t digits)
{
    const uint64_t rest = value >> digits;
    return rest == 0u ? 0 : 64 - (int32_t)__builtin_clzll(rest);
}

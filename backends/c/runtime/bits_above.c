/* How many binary digits value has beyond `digits`; 0 if it has fewer. */
static inline __attribute__((unused)) int32_t tc_bits_above(uint64_t value, int32_t digits)
{
    int32_t above = 0;
    for (uint64_t rest = value >> digits; rest != 0u; rest >>= 1) {
        above++;
    }
    return above;
}

/* The 24 digits of an encoded float. */
static inline __attribute__((unused)) uint32_t tc_soft_significand(uint32_t bits)
{
    return (bits & 0x7FFFFFu) | ((bits & 0x7F800000u) != 0u ? 0x800000u : 0u);
}

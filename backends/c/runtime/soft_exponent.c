/* The exponent of an encoded float: it is tc_soft_significand(bits) * 2^exponent. */
static inline __attribute__((unused)) int32_t tc_soft_exponent(uint32_t bits)
{
    const int32_t field = (int32_t)(bits >> 23 & 0xFFu);
    return field == 0 ? -149 : field - 150;
}

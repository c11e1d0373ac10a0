/* sum + low half of a * low half of b + high half of a * high half of b, as Arm's SMLAD: halves are signed. */
static inline __attribute__((unused)) uint32_t tc_smlad(uint32_t a, uint32_t b, uint32_t sum)
{
    const int32_t low = (int16_t)(a & 0xFFFFu) * (int16_t)(b & 0xFFFFu);
    const int32_t high = (int16_t)(a >> 16) * (int16_t)(b >> 16);
    return sum + (uint32_t)low + (uint32_t)high;
}

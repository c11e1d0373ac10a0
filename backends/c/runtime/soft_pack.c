/* The float nearest to significand * 2^exponent, negated if `negative`, ties to even; as its IEEE 754 encoding.
 * The functions soft_* do single-precision arithmetic with integers, bit for bit, for cores that have no FPU. */
static inline __attribute__((unused)) uint32_t tc_soft_pack(uint32_t negative, int32_t exponent, uint64_t significand)
{
    const uint32_t sign = negative << 31;
    int32_t drop = tc_bits_above(significand, 1) + 1 - 24;
    if (exponent + drop < -149) {
        drop = -149 - exponent; /* subnormal */
    }
    if (significand == 0u || drop > 62) {
        return sign;
    }
    uint64_t rounded = drop > 0 ? tc_halve_to_even(significand, drop) : significand << -drop;
    if (rounded >> 24 != 0u) {
        rounded >>= 1;
        drop++;
    }
    if (exponent + drop > 104) {
        return sign | 0x7F800000u;
    }
    const uint32_t field = rounded >> 23 != 0u ? (uint32_t)(exponent + drop + 150) << 23 : 0u;
    return sign | field | ((uint32_t)rounded & 0x7FFFFFu);
}

/* The float whose IEEE 754 encoding is `bits`. */
static inline float tc_from_bits(uint32_t bits)
{
    union { uint32_t bits; float value; } u;
    u.bits = bits;
    return u.value;
}

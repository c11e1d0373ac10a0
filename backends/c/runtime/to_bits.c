/* The IEEE 754 encoding of `value`. */
static inline uint32_t tc_to_bits(float value)
{
    union { float value; uint32_t bits; } u;
    u.value = value;
    return u.bits;
}

/* The greater of x and 0; NaN stays NaN. Thumb clears a negative number by its sign bit: two instructions where a
 * comparison takes four. */
static inline __attribute__((unused)) float tc_relu(float x)
{
#if defined(__thumb__)
    union { float value; int32_t bits; } u;
    u.value = x;
    u.bits &= ~(u.bits >> 31);
    return u.value;
#else
    return x < 0.0f ? 0.0f : x;
#endif
}

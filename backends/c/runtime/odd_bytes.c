/* Bytes 1 and 3 with their signs as the two halves of a word: Arm's SXTB16 of a rotated register. */
static inline __attribute__((unused)) uint32_t tc_odd_bytes(uint32_t bytes)
{
#if !defined(TINYC_NO_ASM) && defined(__ARM_FEATURE_DSP) && defined(__thumb2__)
    uint32_t halves;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(halves) : "r"(bytes));
    return halves;
#else
    return tc_even_bytes(bytes >> 8);
#endif
}

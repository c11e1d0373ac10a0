/* a - b in each half of a word: Arm's SSUB16. */
static inline __attribute__((unused)) uint32_t tc_difference_of_halves(uint32_t a, uint32_t b)
{
#if !defined(TINYC_NO_ASM) && defined(__ARM_FEATURE_DSP) && defined(__thumb2__)
    uint32_t halves;
    __asm__("ssub16 %0, %1, %2" : "=r"(halves) : "r"(a), "r"(b));
    return halves;
#else
    return ((a - b) & 0xFFFFu) | ((a & 0xFFFF0000u) - (b & 0xFFFF0000u));
#endif
}

/* Bytes 0 and 2 with their signs as the two halves of a word: Arm's SXTB16. */
static inline __attribute__((unused)) uint32_t tc_even_bytes(uint32_t bytes)
{
#if !defined(TINYC_NO_ASM) && defined(__ARM_FEATURE_DSP) && defined(__thumb2__)
    uint32_t halves;
    __asm__("sxtb16 %0, %1" : "=r"(halves) : "r"(bytes));
    return halves;
#else
    const uint32_t low = (uint32_t)(int32_t)(int8_t)(bytes & 0xFFu);
    const uint32_t high = (uint32_t)(int32_t)(int8_t)((bytes >> 16) & 0xFFu);
    return (low & 0xFFFFu) | high << 16;
#endif
}

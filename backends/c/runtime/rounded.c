/* x as a float in memory has it: no compiler fuses what made x with what becomes of it. */
static inline __attribute__((unused)) float tc_rounded(float x)
{
    volatile float stored = x;
    return stored;
}

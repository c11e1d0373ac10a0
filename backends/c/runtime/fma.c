/* a * b + c in one instruction where the processor has one; it is never a call of a library. */
static inline float tc_fma(float a, float b, float c)
{
#if defined(__ARM_FEATURE_FMA) || defined(__FMA__) || defined(__riscv_f)
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

/* a * b + c in one instruction where the processor has one; it is never a call of a library: clang makes one of
 * __builtin_fmaf where a call could set errno, as on bare Arm, but none of its element-wise form. */
#if defined(__has_builtin)
#if __has_builtin(__builtin_elementwise_fma)
#define TC_FMA(a, b, c) __builtin_elementwise_fma(a, b, c)
#endif
#endif
#if !defined(TC_FMA) && !defined(__clang__)
#define TC_FMA(a, b, c) __builtin_fmaf(a, b, c)
#endif

static inline float tc_fma(float a, float b, float c)
{
#if defined(TC_FMA) && (defined(__ARM_FEATURE_FMA) || defined(__FMA__) || defined(__riscv_f))
    return TC_FMA(a, b, c);
#else
    return a * b + c;
#endif
}

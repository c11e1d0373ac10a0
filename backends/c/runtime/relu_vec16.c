#if defined(__SSE2__) || defined(__ARM_NEON)
/* The greater of x and 0, in each lane; NaN stays NaN. */
static inline tc_vec16 tc_relu_vec16(tc_vec16 x)
{
    return (tc_vec16)((tc_mask16)x & ~(tc_mask16)(x < 0.0f));
}
#endif

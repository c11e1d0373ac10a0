#if defined(__SSE2__) || defined(__ARM_NEON)
/* The greater of x and 0, in each lane; NaN stays NaN. */
static inline tc_vec8 tc_relu_vec8(tc_vec8 x)
{
    return (tc_vec8)((tc_mask8)x & ~(tc_mask8)(x < 0.0f));
}
#endif

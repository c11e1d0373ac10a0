#if defined(__SSE2__) || defined(__ARM_NEON)
/* x, but at least low and at most high, in each lane; NaN stays NaN. */
static inline tc_vec16 tc_clip_vec16(tc_vec16 x, float low, float high)
{
    const tc_vec16 zero = {0};
    const tc_vec16 raised = tc_select_vec16((tc_mask16)(x < low), zero + low, x);
    return tc_select_vec16((tc_mask16)(raised > high), zero + high, raised);
}
#endif

#if defined(__SSE2__) || defined(__ARM_NEON)
/* x, but at least low and at most high, in each lane; NaN stays NaN. */
static inline tc_vec8 tc_clip_vec8(tc_vec8 x, float low, float high)
{
    const tc_vec8 zero = {0};
    const tc_vec8 raised = tc_select_vec8((tc_mask8)(x < low), zero + low, x);
    return tc_select_vec8((tc_mask8)(raised > high), zero + high, raised);
}
#endif

#if defined(__SSE2__) || defined(__ARM_NEON)
/* x, but at least low and at most high, in each lane; NaN stays NaN. */
static inline tc_vec4 tc_clip_vec4(tc_vec4 x, float low, float high)
{
    const tc_vec4 zero = {0};
    const tc_vec4 raised = tc_select_vec4((tc_mask4)(x < low), zero + low, x);
    return tc_select_vec4((tc_mask4)(raised > high), zero + high, raised);
}
#endif

#if defined(__SSE2__) || defined(__ARM_NEON)
/* The greater of x and 0, in each lane; NaN stays NaN. */
static inline tc_vec4 tc_relu_vec4(tc_vec4 x)
{
    return (tc_vec4)((tc_mask4)x & ~(tc_mask4)(x < 0.0f));
}
#endif

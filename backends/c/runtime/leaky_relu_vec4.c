#if defined(__SSE2__) || defined(__ARM_NEON)
/* x where it is not negative, else alpha * x, in each lane. */
static inline tc_vec4 tc_leaky_relu_vec4(tc_vec4 x, float alpha)
{
    return tc_select_vec4((tc_mask4)(x < 0.0f), alpha * x, x);
}
#endif

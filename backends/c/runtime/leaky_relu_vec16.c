#if defined(__SSE2__) || defined(__ARM_NEON)
/* x where it is not negative, else alpha * x, in each lane. */
static inline tc_vec16 tc_leaky_relu_vec16(tc_vec16 x, float alpha)
{
    return tc_select_vec16((tc_mask16)(x < 0.0f), alpha * x, x);
}
#endif

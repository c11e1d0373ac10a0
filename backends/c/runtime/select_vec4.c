#if defined(__SSE2__) || defined(__ARM_NEON)
/* The lanes of a where the mask is set, of b elsewhere. */
static inline tc_vec4 tc_select_vec4(tc_mask4 mask, tc_vec4 a, tc_vec4 b)
{
    return (tc_vec4)(((tc_mask4)a & mask) | ((tc_mask4)b & ~mask));
}
#endif

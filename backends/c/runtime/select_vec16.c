#if defined(__SSE2__) || defined(__ARM_NEON)
/* The lanes of a where the mask is set, of b elsewhere. */
static inline tc_vec16 tc_select_vec16(tc_mask16 mask, tc_vec16 a, tc_vec16 b)
{
    return (tc_vec16)(((tc_mask16)a & mask) | ((tc_mask16)b & ~mask));
}
#endif

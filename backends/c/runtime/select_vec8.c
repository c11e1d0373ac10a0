#if defined(__SSE2__) || defined(__ARM_NEON)
/* The lanes of a where the mask is set, of b elsewhere. */
static inline tc_vec8 tc_select_vec8(tc_mask8 mask, tc_vec8 a, tc_vec8 b)
{
    return (tc_vec8)(((tc_mask8)a & mask) | ((tc_mask8)b & ~mask));
}
#endif

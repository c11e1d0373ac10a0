#if defined(__SSE2__) || defined(__ARM_NEON)
/* x times a straight line that rises from 0 at -3 to 1 at 3, in each lane. */
static inline tc_vec16 tc_hard_swish_vec16(tc_vec16 x)
{
    return x * tc_hard_sigmoid_vec16(x, 1.0f / 6.0f, 0.5f);
}
#endif

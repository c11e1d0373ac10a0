#if defined(__SSE2__) || defined(__ARM_NEON)
/* Store the first `count` lanes, or all if there are fewer. */
static inline void tc_part_vec16(float *y, tc_vec16 x, int32_t count)
{
    for (int32_t lane = 0; lane < count && lane < (int32_t)(sizeof(x) / sizeof(float)); lane++) {
        y[lane] = x[lane];
    }
}
#endif

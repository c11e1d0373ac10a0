#if defined(__SSE2__) || defined(__ARM_NEON)
/* A straight line of slope alpha through (0, beta), kept between 0 and 1, in each lane. */
static inline tc_vec4 tc_hard_sigmoid_vec4(tc_vec4 x, float alpha, float beta)
{
    return tc_clip_vec4(alpha * x + beta, 0.0f, 1.0f);
}
#endif

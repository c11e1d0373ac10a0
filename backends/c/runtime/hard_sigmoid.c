/* A straight line of slope alpha through (0, beta), kept between 0 and 1. */
static inline __attribute__((unused)) float tc_hard_sigmoid(float x, float alpha, float beta)
{
    return tc_clip(alpha * x + beta, 0.0f, 1.0f);
}

/* 1 / (1 + e^-x), within 3 ulp, without overflow on either side. */
static inline float tc_sigmoid(float x)
{
    const float power = tc_exp(x < 0.0f ? x : -x);
    const float above = 1.0f / (1.0f + power);
    return x < 0.0f ? power * above : above;
}

/* x where it is not negative, else alpha * (e^x - 1). */
static inline float tc_elu(float x, float alpha)
{
    return x < 0.0f ? alpha * tc_expm1(x) : x;
}

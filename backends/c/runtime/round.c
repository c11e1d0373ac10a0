/* The whole number next to x; of two the even one. */
static inline float tc_round(float x)
{
    if (tc_is_whole(x)) {
        return x;
    }
    const int32_t whole = (int32_t)x;
    const float rest = x - (float)whole; /* exact */
    const int32_t odd = whole & 1;
    const int32_t up = rest > 0.5f || (rest >= 0.5f && odd != 0);
    const int32_t down = rest < -0.5f || (rest <= -0.5f && odd != 0);
    return (float)(whole + up - down);
}

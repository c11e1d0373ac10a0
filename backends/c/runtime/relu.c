/* The greater of x and 0; NaN stays NaN. */
static inline float tc_relu(float x)
{
    return x < 0.0f ? 0.0f : x;
}

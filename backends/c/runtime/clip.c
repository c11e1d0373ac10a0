/* x, but at least low and at most high; NaN stays NaN. */
static inline __attribute__((unused)) float tc_clip(float x, float low, float high)
{
    const float raised = x < low ? low : x;
    return raised > high ? high : raised;
}

/* x times a straight line that rises from 0 at -3 to 1 at 3. */
static inline __attribute__((unused)) float tc_hard_swish(float x)
{
    return x * tc_hard_sigmoid(x, 1.0f / 6.0f, 0.5f);
}

/* x where it is not negative, else alpha * x. */
static inline __attribute__((unused)) float tc_leaky_relu(float x, float alpha)
{
    return x < 0.0f ? alpha * x : x;
}

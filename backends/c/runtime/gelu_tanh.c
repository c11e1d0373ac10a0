/* The approximation of gelu by a hyperbolic tangent. */
static inline float tc_gelu_tanh(float x)
{
    return 0.5f * x * (1.0f + tc_tanh(0.797884561f * (x + 0.044715f * x * x * x)));
}

/* x rounded to a whole number, ties to even, plus zero; at least low and at most high, low for NaN.
 * Adding 1.5 * 2^23 rounds: what is behind the point does not fit any more. No multiplication may stand in front of the
 * addition, which a compiler could fuse with it; so what comes here are quotients and sums. */
static inline __attribute__((unused)) int32_t tc_quantized(float x, int32_t zero, int32_t low, int32_t high)
{
    const float near = x > -1048576.0f ? (x < 1048576.0f ? x : 1048576.0f) : -1048576.0f;
    const int32_t whole = (int32_t)(tc_to_bits(near + 12582912.0f) - 0x4B400000u);
    return tc_clamp(whole + zero, low, high);
}

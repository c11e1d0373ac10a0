/* Whether x is too large for a fraction, infinite or NaN; all others fit into an int32_t. */
static inline int32_t tc_is_whole(float x)
{
    return !(x > -8388608.0f && x < 8388608.0f);
}

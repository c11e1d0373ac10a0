/* A word for each of four planes, from four bytes of a pixel and of its right neighbour. */
static inline __attribute__((unused)) void tc_plane_words(uint32_t left, uint32_t right, uint32_t *to, int32_t apart)
{
    const uint32_t left_even = tc_even_bytes(left), left_odd = tc_odd_bytes(left);
    const uint32_t right_even = tc_even_bytes(right), right_odd = tc_odd_bytes(right);
    to[0] = (left_even & 0xFFFFu) | right_even << 16;
    to[apart] = (left_odd & 0xFFFFu) | right_odd << 16;
    to[2 * apart] = (right_even & 0xFFFF0000u) | left_even >> 16;
    to[3 * apart] = (right_odd & 0xFFFF0000u) | left_odd >> 16;
}

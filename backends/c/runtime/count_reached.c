/* How many of the `count` numbers in `limits`, which do not decrease, are at most x. */
static inline __attribute__((unused)) int32_t tc_count_reached(const int32_t *limits, int32_t count, int32_t x)
{
    int32_t first = 0;
    while (count > 0) {
        const int32_t half = count / 2;
        if (limits[first + half] <= x) {
            first += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return first;
}

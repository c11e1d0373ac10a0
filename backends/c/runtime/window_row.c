/* `length` bytes of a line of `limit` bytes from `first` on; what is outside of the line is `zero`. All is outside where
 * there is no line. */
static __attribute__((noinline, unused)) void tc_window_row(const void *line, int32_t first, int32_t length, int32_t limit,
    uint8_t *to, uint8_t zero)
{
    const uint8_t *bytes = line;
    for (int32_t k = 0; k < length; k++) {
        to[k] = line != NULL && first + k >= 0 && first + k < limit ? bytes[first + k] : zero;
    }
}

/* `bytes` bytes, a multiple of 4, from one aligned address to another. */
static __attribute__((noinline, unused)) void tc_copy_words(const void *restrict from, void *restrict to, int32_t bytes)
{
    const uint8_t *source = from;
    uint8_t *place = to;
    for (; bytes >= 32; bytes -= 32, source += 32, place += 32) {
        __builtin_memcpy(__builtin_assume_aligned(place, 4), __builtin_assume_aligned(source, 4), 32);
    }
    for (; bytes > 0; bytes -= 4, source += 4, place += 4) {
        __builtin_memcpy(__builtin_assume_aligned(place, 4), __builtin_assume_aligned(source, 4), 4);
    }
}

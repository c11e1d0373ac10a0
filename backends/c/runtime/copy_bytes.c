/* `bytes` bytes at any addresses. */
static __attribute__((noinline, unused)) void tc_copy_bytes(const void *restrict from, void *restrict to, int32_t bytes)
{
    const uint8_t *source = from;
    uint8_t *place = to;
    for (; bytes >= 8; bytes -= 8, source += 8, place += 8) {
        __builtin_memcpy(place, source, 8);
    }
    for (int32_t i = 0; i < bytes; i++) {
        place[i] = source[i];
    }
}

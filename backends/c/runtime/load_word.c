/* Four bytes at any address, the first one lowest. */
static inline __attribute__((unused)) uint32_t tc_load_word(const void *bytes)
{
    uint32_t word;
    __builtin_memcpy(&word, bytes, sizeof word);
    return word;
}

/* A whole number from 0 on, below 2^24, as an encoded float. */
static inline __attribute__((unused)) uint32_t tc_soft_count(int32_t count)
{
    return tc_soft_pack(0u, 0, (uint64_t)count);
}

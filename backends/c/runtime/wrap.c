/* The slot of a ring of `ring` rows, for a slot number that may have run past its end once. */
static inline int32_t tc_wrap(int32_t slot, int32_t ring)
{
    return slot >= ring ? slot - ring : slot;
}

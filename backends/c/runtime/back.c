/* The slot of a ring of `ring` rows, for a slot number that may have run past its beginning once. */
static inline int32_t tc_back(int32_t slot, int32_t ring)
{
    return slot < 0 ? slot + ring : slot;
}

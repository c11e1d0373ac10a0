/* How many of `height` rows are done, where a schedule that knows no ends says `rows`. */
static inline int32_t tc_due(int32_t rows, int32_t height)
{
    return rows < 0 ? 0 : rows > height ? height : rows;
}

#if defined(__SSE2__) || defined(__ARM_NEON)
/* Four neighbouring floats in a vector register. */
typedef float tc_vec4 __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t tc_mask4 __attribute__((vector_size(16)));
#endif

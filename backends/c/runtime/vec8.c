#if defined(__SSE2__) || defined(__ARM_NEON)
/* Neighbouring floats in a vector register: 8, or the 4 that are a part of 8. */
#if defined(__AVX__)
typedef float tc_vec8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t tc_mask8 __attribute__((vector_size(32)));
#else
typedef float tc_vec8 __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t tc_mask8 __attribute__((vector_size(16)));
#endif
#endif

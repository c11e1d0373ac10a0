#if defined(__SSE2__) || defined(__ARM_NEON)
/* Neighbouring floats in the widest vector register of the machine: 16, or the 8 or 4 that are a part of 16. */
#if defined(__AVX512F__)
typedef float tc_vec16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t tc_mask16 __attribute__((vector_size(64)));
#elif defined(__AVX__)
typedef float tc_vec16 __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t tc_mask16 __attribute__((vector_size(32)));
#else
typedef float tc_vec16 __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t tc_mask16 __attribute__((vector_size(16)));
#endif
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of lists and choosing among them with AVX-512. */
#include "kernel/code_v16_avx512.h"

#define NAME(loop) code_##loop##_avx512

#include "kernel/code_rank_loops.h"

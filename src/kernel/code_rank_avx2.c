/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of lists and choosing among them with AVX2. */
#include "kernel/code_v16_avx2.h"

#define NAME(loop) code_##loop##_avx2

#include "kernel/code_rank_loops.h"

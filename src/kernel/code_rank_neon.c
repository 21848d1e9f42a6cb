/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of lists and choosing among them with Advanced SIMD. */
#include "kernel/code_v16_neon.h"

#define NAME(loop) code_##loop##_neon

#include "kernel/code_rank_loops.h"

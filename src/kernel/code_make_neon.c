/* SPDX-License-Identifier: Apache-2.0 */
/* Making codes with Advanced SIMD. */
#include "kernel/code_v16_neon.h"

#define NAME(loop) code_##loop##_neon

#include "kernel/code_make_loops.h"

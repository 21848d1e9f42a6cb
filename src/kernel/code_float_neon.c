/* SPDX-License-Identifier: Apache-2.0 */
/* Assignment and rotation with Advanced SIMD. */
#include "kernel/code_v16_neon.h"

#define NAME(loop)    code_##loop##_neon
#define TILE_ROWS     4
#define TILE_LANES    1
#define FHT_REGISTERS 4

#include "kernel/code_float_loops.h"

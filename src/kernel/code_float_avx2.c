/* SPDX-License-Identifier: Apache-2.0 */
/* Assignment and rotation with AVX2. */
#include "kernel/code_v16_avx2.h"

#define NAME(loop)    code_##loop##_avx2
#define TILE_ROWS     6
#define TILE_LANES    1
#define FHT_REGISTERS 4

#include "kernel/code_float_loops.h"

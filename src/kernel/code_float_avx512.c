/* SPDX-License-Identifier: Apache-2.0 */
/* Assignment and rotation with AVX-512. */
#include "kernel/code_v16_avx512.h"

#define NAME(loop)    code_##loop##_avx512
#define TILE_ROWS     8
#define TILE_LANES    2
#define FHT_REGISTERS 8

#include "kernel/code_float_loops.h"

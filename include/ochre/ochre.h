/* SPDX-License-Identifier: Apache-2.0 */
/* Ochre as a library: a vector database inside your process. */
#ifndef OCHRE_OCHRE_H
#define OCHRE_OCHRE_H

#include "ochre/error.h"

#define OCH_VERSION        "1.0.0"
#define OCH_VERSION_NUMBER 10000u
#endif

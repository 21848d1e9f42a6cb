/* SPDX-License-Identifier: Apache-2.0 */
/* Files that become part of the program. */
#ifndef BASE_EMBED_H
#define BASE_EMBED_H

#include "base/slice.h"

/**
 * Put the bytes of a file into read-only memory; `path` is a literal, relative to src/.
 *
 * Declares `name_at` and `name_end`; EMBEDDED(name) views what lies between them, which a zero byte follows.  The
 * build must be told that the source depends on the file (CMakeLists.txt: OBJECT_DEPENDS).
 */
#define EMBED_FILE(name, path)                                     \
    extern const uint8_t name##_at[] __asm__("ochre_file_" #name); \
    extern const uint8_t name##_end[] __asm__("ochre_end_" #name); \
    __asm__(".pushsection .rodata\n"                               \
            ".balign 64\n"                                         \
            ".hidden ochre_file_" #name "\n"                       \
            ".hidden ochre_end_" #name "\n"                        \
            ".globl ochre_file_" #name "\n"                        \
            ".globl ochre_end_" #name "\n"                         \
            "ochre_file_" #name ":\n"                              \
            ".incbin \"" path "\"\n"                               \
            "ochre_end_" #name ":\n"                               \
            ".byte 0\n"                                            \
            ".popsection\n")
#define EMBEDDED(name) slice_make(name##_at, (size_t)(name##_end - name##_at))

#endif

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes src/model/terms_unicode.h: which code points make words, which are words' pieces two by two, and what upper case folds to.

Run again only together with a new TERMS_VERSION in src/model/terms.h: stored indexes hold terms made with the table before.
"""
import sys
import unicodedata

LAST = 0x10FFFF
NONE, WORD, PAIR = 0, 1, 2
# Scripts written without spaces, or whose words grow by endings: cut into overlapping pairs.
PAIRED = ("CJK UNIFIED", "CJK COMPATIBILITY IDEOGRAPH", "HIRAGANA", "KATAKANA", "HANGUL", "THAI CHARACTER", "LAO ", "KHMER ", "MYANMAR ",
          "HALFWIDTH KATAKANA", "HALFWIDTH HANGUL", "IDEOGRAPHIC ITERATION", "TANGUT", "NUSHU")


def kind(point):
    character = chr(point)
    if unicodedata.category(character)[0] not in "LMN":
        return NONE
    if unicodedata.category(character) != "Nd" and unicodedata.name(character, "").startswith(PAIRED):
        return PAIR
    return WORD


def fold(point):
    if point == 0x130:  # capital i with a dot has no simple folding
        return ord("i")
    if 0xFF01 <= point <= 0xFF5E:  # full width
        return fold(point - 0xFEE0)
    character = chr(point)
    for folded in (character.casefold(), character.lower()):
        if len(folded) == 1:
            return ord(folded)
    return point


def kinds():
    rows, first = [], 0
    for point in range(128, LAST + 2):
        here = kind(point) if point <= LAST else NONE
        if point > 128 and rows and rows[-1][2] == here and rows[-1][1] == point - 1:
            rows[-1][1] = point
        elif here:
            rows.append([point, point, here])
    return rows


def folds():
    rows = []  # first, last, step, delta
    for point in range(128, LAST + 1):
        delta = fold(point) - point
        if not delta:
            continue
        last = rows[-1] if rows else None
        if last and last[3] == delta and last[1] == point - last[2]:
            last[1] = point
        elif last and last[3] == delta and last[0] == last[1] == point - 2 and fold(point - 1) == point - 1:
            last[1], last[2] = point, 2
        else:
            rows.append([point, point, 1, delta])
    return rows


def main():
    out = [
        "/* SPDX-License-Identifier: Apache-2.0 */",
        f"/* Made by tools/unicode_terms.py of Unicode {unicodedata.unidata_version}: changed only together with TERMS_VERSION. */",
        "#ifndef MODEL_TERMS_UNICODE_H", "#define MODEL_TERMS_UNICODE_H", "", "#include <stdint.h>", "",
        "/* Code points from U+0080 on that are letters, marks or numbers; `kind` 2: cut into pairs. */",
        "static const struct term_kind_range {", "    uint32_t first, last, kind;", "} term_kinds[] = {",
    ]
    out += [f"    {{{a:#x}, {b:#x}, {c}}}," for a, b, c in kinds()]
    out += ["};", "", "/* Every step-th code point from first to last folds to itself + delta. */",
            "static const struct term_fold_range {", "    uint32_t first, last, step;", "    int32_t delta;", "} term_folds[] = {"]
    out += [f"    {{{a:#x}, {b:#x}, {c}, {d}}}," for a, b, c, d in folds()]
    out += ["};", "#endif"]
    sys.stdout.write("\n".join(out) + "\n")


main()

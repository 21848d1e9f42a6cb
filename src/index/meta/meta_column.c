/* SPDX-License-Identifier: Apache-2.0 */
/* Writing one column: dictionary, list, slices; and the directory at the end.  docs/formats/meta.md. */
#include "index/meta/meta_internal.h"

static och_code emit(struct meta_writer *writer, const void *at, size_t len, och_error *err)
{
    TRY(writer->emit(writer->context, at, len, err));
    writer->offset += len;
    return OCH_OK;
}

static och_code emit_block(struct meta_writer *writer, uint64_t align, och_error *err)
{
    TRY(buf_check(&writer->block, "a metadata index", err));
    buf_align(&writer->block, align);
    TRY(buf_check(&writer->block, "a metadata index", err));
    TRY(emit(writer, writer->block.at, writer->block.len, err));
    buf_clear(&writer->block);
    return OCH_OK;
}

/* Blocks begin at multiples of 64, so that slices are whole cache lines where a section is one extent. */
static och_code align(struct meta_writer *writer, och_error *err)
{
    static const uint8_t zeros[64];
    size_t gap = (size_t)(round_up(writer->offset, 64) - writer->offset);
    return gap ? emit(writer, zeros, gap, err) : OCH_OK;
}

/* ---- dictionary ---- */

static size_t shared_len(slice a, slice b)
{
    size_t i = 0, most = min_size(a.len, b.len);
    while (i < most && a.at[i] == b.at[i])
        i++;
    return i;
}

/* Room for `count` values of `width` bits in the block; at NULL: none. */
static struct meta_packer packed_room(struct buf *block, uint32_t count, unsigned width)
{
    size_t size = (size_t)meta_packed_size(count, width);
    struct meta_packer packer = {.at = buf_reserve(block, size)};
    if (packer.at && size) {
        memset(packer.at + size - 16, 0, 16); /* the last word, and the one that is added */
        block->len += size;
    }
    return packer;
}

static void put_strings(struct buf *block, const slice *strings, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        size_t shared = i ? shared_len(strings[i - 1], strings[i]) : 0;
        buf_varint(block, shared);
        buf_sized(block, slice_from(strings[i], shared));
    }
}

static och_code write_dict_block(struct meta_writer *writer, const struct meta_values *values,
                                 uint32_t first, uint32_t count, och_error *err)
{
    struct buf *block = &writer->block;
    const uint32_t *before = values->before + first;
    uint64_t image = values->images ? values->images[first] : 0;
    unsigned width = values->images ? meta_bits_of(values->images[first + count - 1] - image) : 0;
    unsigned excess = meta_bits_of(before[count - 1] - before[0] - (count - 1));
    buf_clear(block);
    buf_byte(block, (uint8_t)width);
    buf_byte(block, (uint8_t)excess);
    buf_zero(block, 6);
    struct meta_packer packer = packed_room(block, count, width);
    for (uint32_t i = 0; packer.at && width && i < count; i++)
        meta_pack(&packer, values->images[first + i] - image, width);
    meta_pack_end(&packer);
    packer = packed_room(block, count, excess);
    for (uint32_t i = 0; packer.at && excess && i < count; i++)
        meta_pack(&packer, before[i] - before[0] - i, excess);
    meta_pack_end(&packer);
    size_t strings_at = block->len;
    if (values->strings)
        put_strings(block, values->strings + first, count);
    TRY(buf_check(block, "a metadata index", err));
    store_u32(block->at + 4, (uint32_t)(block->len - strings_at));
    return emit_block(writer, 8, err);
}

/* The shortest text that is above the string before and not above this one. */
static slice separator_of(const struct meta_values *values, uint32_t i)
{
    if (!i)
        return SLICE("");
    size_t shared = shared_len(values->strings[i - 1], values->strings[i]);
    return slice_make(values->strings[i].at, shared + 1);
}

/* ret_tops: offsets into the tail. */
static och_code write_dict(struct meta_writer *writer, const struct meta_values *values,
                           size_t *ret_tops, size_t *ret_separators, och_error *err)
{
    uint32_t per_block = meta_dict_block(values->type, values->ordinals);
    uint64_t begin = writer->offset;
    CLEANUP(buf_cleanup) struct buf separators;
    buf_init(&separators, UINT32_MAX);
    *ret_tops = writer->tail.len;
    for (uint32_t first = 0;; first += per_block) {
        uint32_t left = values->ordinals > first ? values->ordinals - first : 0;
        if ((writer->offset - begin) / 8 > UINT32_MAX)
            return FAIL(err, OCH_TOO_LARGE, "the dictionary of a metadata key");
        if (values->strings && left) {
            slice separator = separator_of(values, first);
            buf_u32(&writer->tail, (uint32_t)separators.len);
            buf_u32(&writer->tail, (uint32_t)separator.len);
            buf_slice(&separators, separator);
        } else {
            buf_u64(&writer->tail, left && values->images ? values->images[first] : 0);
        }
        buf_u32(&writer->tail, (uint32_t)((writer->offset - begin) / 8));
        buf_u32(&writer->tail, left ? values->before[first] : values->entries);
        if (!left)
            break;
        TRY(write_dict_block(writer, values, first, left < per_block ? left : per_block, err));
    }
    *ret_separators = writer->tail.len;
    buf_slice(&writer->tail, buf_view(&separators));
    return buf_check(&separators, "a metadata index", err);
}

/* ---- list ---- */

static och_code write_list(struct meta_writer *writer, const struct meta_values *values,
                           och_error *err)
{
    unsigned bits = meta_row_bits(writer->rows);
    for (uint32_t done = 0; done < values->entries; done += META_LIST_BLOCK) {
        uint32_t left = values->entries - done;
        uint32_t count = left < META_LIST_BLOCK ? left : META_LIST_BLOCK;
        size_t size = count < META_LIST_BLOCK
                          ? (size_t)round_up(((uint64_t)count * bits + 7) / 8, 8)
                          : (size_t)META_LIST_BLOCK / 8 * bits;
        buf_clear(&writer->block);
        uint8_t *at = buf_reserve(&writer->block, size);
        if (!at)
            return buf_check(&writer->block, "a metadata index", err);
        struct meta_packer packer = {.at = at};
        for (uint32_t i = 0; i < count; i++)
            meta_pack(&packer, values->rows[done + i], bits);
        meta_pack_end(&packer);
        TRY(emit(writer, at, size, err));
    }
    static const uint8_t zeros[8];
    return emit(writer, zeros, sizeof(zeros), err);
}

/* ---- slices ---- */

/* `rows` ordinals, 0: none; up to a whole block they are followed by zeros. */
static struct meta_zone zone_of(const uint32_t *ordinals, uint32_t rows, uint64_t offset)
{
    uint32_t least = UINT32_MAX, most = 0, missing = 0; /* 0 less one is the greatest */
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t ordinal = ordinals[i];
        missing |= !ordinal;
        least = ordinal - 1 < least ? ordinal - 1 : least;
        most = ordinal > most ? ordinal : most;
    }
    struct meta_zone zone = {
        .min = most ? least + 1 : 0, .max = most, .missing = missing, .offset = offset};
    zone.width = (uint8_t)meta_bits_of(most ? (uint64_t)most - zone.min + missing : 0);
    return zone;
}

static och_code write_chunk(struct meta_writer *writer, uint32_t *codes, uint32_t rows,
                            och_error *err)
{
    struct meta_zone zone = zone_of(codes, rows, writer->offset);
    uint32_t low = zone.min - (zone.min ? zone.missing : 0);
    size_t size = (size_t)meta_zone_size(rows, zone.width);
    buf_u32(&writer->tail, zone.min);
    buf_u32(&writer->tail, zone.max);
    buf_byte(&writer->tail, zone.missing);
    buf_byte(&writer->tail, zone.width);
    buf_zero(&writer->tail, 6);
    buf_u64(&writer->tail, zone.offset);
    if (!size)
        return OCH_OK;
    for (uint32_t i = 0; i < rows; i++)
        codes[i] = codes[i] ? codes[i] - low : 0;
    buf_clear(&writer->block);
    uint8_t *body = buf_reserve(&writer->block, size);
    if (!body)
        return buf_check(&writer->block, "a metadata index", err);
    kernel_bits_get()->slice(codes, ((size_t)rows + BITS_ROWS - 1) / BITS_ROWS, zone.width, body);
    return emit(writer, body, size, err);
}

static och_code write_slices(struct meta_writer *writer, const struct meta_values *values,
                             uint32_t *codes, och_error *err)
{
    memset(codes, 0, meta_codes_bytes(writer->rows));
    for (uint32_t ordinal = 1; ordinal <= values->ordinals; ordinal++) {
        for (uint32_t i = values->before[ordinal - 1]; i < values->before[ordinal]; i++)
            codes[values->rows[i]] = ordinal;
    }
    for (uint32_t chunk = 0; chunk < meta_chunks(writer->rows); chunk++)
        TRY(write_chunk(writer, codes + (size_t)chunk * META_CHUNK,
                        meta_chunk_rows(writer->rows, chunk), err));
    return OCH_OK;
}

/* ---- column and directory ---- */

static uint8_t structures_of(const struct meta_values *values, uint32_t rows)
{
    if (meta_type_is_array(values->type))
        return META_HAS_LIST;
    /* Few rows have the key: their list is always less to read, and slices would cost a bit of all rows. */
    if (values->entries < rows / META_SPARSE_SHARE)
        return META_HAS_LIST;
    /* Identifiers: only equality is asked, and there slices lose. */
    if (values->type == META_STRING && values->ordinals > values->present / 2 &&
        values->ordinals > META_FEW)
        return META_HAS_LIST;
    return values->ordinals <= META_FEW ? META_HAS_SLICES : META_HAS_LIST | META_HAS_SLICES;
}

struct places {
    uint64_t dict, list;
    size_t tops, separators, zones;
};

/* Offsets into the tail are made offsets into the directory when all columns are known. */
static och_code note_column(struct meta_writer *writer, const struct meta_values *values,
                            uint8_t has, const struct places *places, och_error *err)
{
    struct buf *out = &writer->entries;
    uint32_t per_block = values->ordinals ? meta_dict_block(values->type, values->ordinals) : 1;
    bool numbers = values->images && values->ordinals;
    if (writer->tail.len > UINT32_MAX || writer->keys.len > UINT32_MAX - values->key.len)
        return FAIL(err, OCH_TOO_LARGE, "the directory of a metadata index");
    buf_u32(out, (uint32_t)writer->keys.len);
    buf_u32(out, (uint32_t)values->key.len);
    buf_byte(out, values->type);
    buf_byte(out, has);
    buf_u16(out, 0);
    buf_u32(out, values->ordinals);
    buf_u32(out, values->entries);
    buf_u32(out, (uint32_t)(((uint64_t)values->ordinals + per_block - 1) / per_block));
    buf_u64(out, places->dict);
    buf_u64(out, places->list);
    buf_u32(out, (uint32_t)places->tops);
    buf_u32(out, (uint32_t)places->separators);
    buf_u32(out, (uint32_t)((has & META_UNINDEXED ? writer->tail.len : places->zones) -
                            places->separators));
    buf_u32(out, (uint32_t)places->zones);
    buf_u64(out, numbers ? values->images[values->ordinals - 1] : 0);
    buf_slice(&writer->keys, values->key);
    writer->columns++;
    TRY(buf_check(out, "a metadata index", err));
    TRY(buf_check(&writer->keys, "a metadata index", err));
    return buf_check(&writer->tail, "a metadata index", err);
}

och_code meta_write_column(struct meta_writer *writer, const struct meta_values *values,
                           uint32_t *codes, och_error *err)
{
    struct places places = {0};
    uint8_t has = structures_of(values, writer->rows);
    assert(values->ordinals && values->before[values->ordinals] == values->entries);
    TRY(align(writer, err));
    places.dict = writer->offset;
    TRY(write_dict(writer, values, &places.tops, &places.separators, err));
    if (has & META_HAS_LIST) {
        TRY(align(writer, err));
        places.list = writer->offset;
        TRY(write_list(writer, values, err));
    }
    places.zones = writer->tail.len;
    if (has & META_HAS_SLICES) {
        TRY(align(writer, err));
        TRY(write_slices(writer, values, codes, err));
    }
    return note_column(writer, values, has, &places, err);
}

och_code meta_write_unindexed(struct meta_writer *writer, slice key, uint8_t type, uint32_t present,
                              och_error *err)
{
    struct meta_values values = {.key = key, .type = type, .entries = present};
    struct places places = {
        .tops = writer->tail.len, .separators = writer->tail.len, .zones = writer->tail.len};
    return note_column(writer, &values, META_UNINDEXED, &places, err);
}

/* Entries by key and type: an index sort, the entries stay where they are until then. */
static int compare_entries(const struct meta_writer *writer, uint32_t a, uint32_t b)
{
    const uint8_t *x = writer->entries.at + (size_t)a * META_ENTRY_SIZE,
                  *y = writer->entries.at + (size_t)b * META_ENTRY_SIZE;
    int order = slice_compare(slice_make(writer->keys.at + load_u32(x), load_u32(x + 4)),
                              slice_make(writer->keys.at + load_u32(y), load_u32(y + 4)));
    return order ? order : (x[8] > y[8]) - (x[8] < y[8]);
}

/* Heap sort: nothing to allocate, and no worst case. */
static void sort_entries(const struct meta_writer *writer, uint32_t *order)
{
    uint32_t count = writer->columns;
    for (uint32_t heap = count / 2, end = count; end > 1;) {
        uint32_t moved;
        if (heap) {
            moved = order[--heap];
        } else {
            moved = order[--end];
            order[end] = order[0];
        }
        uint32_t at = heap;
        for (uint32_t child; (child = 2 * at + 1) < end; at = child) {
            if (child + 1 < end && compare_entries(writer, order[child], order[child + 1]) < 0)
                child++;
            if (compare_entries(writer, order[child], moved) <= 0)
                break;
            order[at] = order[child];
        }
        order[at] = moved;
    }
}

och_code meta_write_directory(struct meta_writer *writer, bool incomplete, uint64_t *ret_len,
                              och_error *err)
{
    buf_align(&writer->keys, 8);
    TRY(buf_check(&writer->keys, "a metadata index", err));
    uint64_t tail_at =
        META_DIR_SIZE + (uint64_t)writer->columns * META_ENTRY_SIZE + writer->keys.len;
    if (tail_at + writer->tail.len > UINT32_MAX)
        return FAIL(err, OCH_TOO_LARGE, "the directory of a metadata index");
    CLEANUP(mem_cleanup)
    uint32_t *order = mem_alloc((size_t)writer->columns * sizeof(*order) + 1);
    if (!order)
        return FAIL_NO_MEMORY(err, "a metadata index");
    for (uint32_t i = 0; i < writer->columns; i++)
        order[i] = i;
    sort_entries(writer, order);
    uint8_t head[META_DIR_SIZE] = {0};
    store_u32(head, META_MAGIC);
    store_u16(head + 4, META_VERSION);
    store_u16(head + 6, incomplete ? META_INCOMPLETE : 0);
    store_u32(head + 8, writer->rows);
    store_u32(head + 12, writer->columns);
    store_u32(head + 16, (uint32_t)writer->keys.len);
    TRY(emit(writer, head, sizeof(head), err));
    for (uint32_t i = 0; i < writer->columns; i++) {
        static const uint8_t places[] = {40, 44, 52};
        uint8_t *entry = writer->entries.at + (size_t)order[i] * META_ENTRY_SIZE;
        for (size_t p = 0; p < COUNT_OF(places); p++)
            store_u32(entry + places[p], load_u32(entry + places[p]) + (uint32_t)tail_at);
        TRY(emit(writer, entry, META_ENTRY_SIZE, err));
    }
    TRY(emit(writer, writer->keys.at, writer->keys.len, err));
    TRY(emit(writer, writer->tail.at, writer->tail.len, err));
    *ret_len = tail_at + writer->tail.len;
    return OCH_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Any configuration file: settings or one sentence with the place; and what is printed of settings reads back to the same. */
#include "mode/settings.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static och_code load(slice text, struct settings *out, och_error *err)
{
    /* so that the machine's memory is not asked for each input */
    static const struct setting_flag flag = {"memory-limit", "1GiB"};
    struct settings_input input = {
        .flags = &flag, .flag_count = 1, .yaml_path = "ochre.yaml", .yaml_text = text};
    return settings_init(&input, out, err);
}

/* Values without their origins: each line up to the mark that settings_print puts there. */
static void print(const struct settings *settings, struct buf *out)
{
    struct settings plain = *settings;
    memset(plain.origins, 0, sizeof(plain.origins));
    settings_print(&plain, out);
}

static void must(bool so)
{
    if (!so)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct settings settings, again;
    och_error err = {0};
    static const uint8_t nothing;
    och_code code = load(slice_make(size ? data : &nothing, size), &settings, &err);
    if (code != OCH_OK) {
        must(code == OCH_SETTING && err.message[0] != 0);
        return 0;
    }
    struct buf first, second;
    buf_init(&first, BUF_MAX_NONE);
    buf_init(&second, BUF_MAX_NONE);
    print(&settings, &first);
    must(load(buf_view(&first), &again, &err) == OCH_OK);
    print(&again, &second);
    must(slice_equal(buf_view(&first), buf_view(&second)));
    buf_done(&first);
    buf_done(&second);
    settings_done(&again);
    settings_done(&settings);
    return 0;
}

/* cc quickstart.c $(pkg-config --cflags --libs ochre) && ./a.out */
#include <ochre/ochre.h>
#include <stdio.h>
#include <stdlib.h>

static och_error err = OCH_ERROR;

static void check(och_code code)
{
    if (code == OCH_OK)
        return;
    fprintf(stderr, "quickstart: %s\n", err.message);
    exit(1);
}

int main(void)
{
    och_database *database;
    check(och_database_open("./quickstart.ochre", NULL, &database, &err));

    och_collection_spec spec = OCH_COLLECTION_SPEC;
    spec.name = och_text("colours");
    spec.get_or_create = true;
    och_collection *colours;
    check(och_collection_create(database, &spec, &colours, &err));

    const float vectors[] = {0.8f, 0.47f, 0.13f, /**/ 0.63f, 0.32f, 0.18f, /**/ 0.0f, 0.28f, 0.67f};
    och_bytes ids[] = {och_text("ochre"), och_text("sienna"), och_text("cobalt")};
    och_bytes metadatas[] = {och_text("{\"kind\": \"earth\"}"), och_text("{\"kind\": \"earth\"}"),
                             och_text("{\"kind\": \"metal\"}")};
    och_records records = OCH_RECORDS;
    records.count = 3;
    records.dimension = 3;
    records.ids = ids;
    records.vectors = vectors;
    records.metadatas_json = metadatas;
    check(och_collection_upsert(colours, &records, NULL, &err));

    och_filter *earth;
    check(och_filter_parse(och_text("{\"kind\": \"earth\"}"), och_text(NULL), &earth, &err));
    och_select among = OCH_SELECT;
    among.filter = earth;
    among.include = OCH_METADATA;
    const float wanted[] = {0.6f, 0.3f, 0.2f};
    och_result *result;
    check(och_collection_query(colours, wanted, 1, 3, 2, &among, &result, &err));

    och_row row = OCH_ROW;
    for (bool more; check(och_result_next(result, &row, &more, &err)), more;)
        printf("%.*s  %.4f  %.*s\n", (int)row.id.len, (const char *)row.id.at, row.distance,
               (int)row.metadata_json.len, (const char *)row.metadata_json.at);

    och_result_free(result);
    och_filter_free(earth);
    och_collection_free(colours);
    check(och_database_close(database, &err));
    och_database_free(database);
    return 0;
}

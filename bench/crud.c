/*
 * What native CRUD costs in C alone, without nginx and the store:
 * nanoseconds a call, the median of rounds.
 *
 *   make -f t/unit/unit.mk bench-crud
 */

#include "crud/db_crud.h"
#include "json/db_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>


#define ROUNDS  15
#define CALLS   20000


static const char  schema[] =
    "{\"databridge\":1,\"model\":\"Article\",\"collection\":\"article\","
    "\"prefix\":\"/articles\",\"store\":\"main\",\"id\":\"objectid\","
    "\"fields\":["
    "{\"name\":\"title\",\"type\":\"str\",\"min_length\":1,"
    "\"max_length\":200},"
    "{\"name\":\"text\",\"type\":\"str\"},"
    "{\"name\":\"views\",\"type\":\"int\",\"ge\":0,\"default\":0},"
    "{\"name\":\"rating\",\"type\":\"float\",\"nullable\":true,"
    "\"default\":null},"
    "{\"name\":\"published\",\"type\":\"bool\",\"default\":false},"
    "{\"name\":\"tags\",\"type\":\"list\",\"items\":{\"type\":\"str\"},"
    "\"default_factory\":\"list\"},"
    "{\"name\":\"created\",\"type\":\"datetime\","
    "\"default_factory\":\"now_utc\"},"
    "{\"name\":\"author\",\"type\":\"model\",\"model\":\"Author\"}],"
    "\"models\":{\"Author\":{\"fields\":["
    "{\"name\":\"name\",\"type\":\"str\"},"
    "{\"name\":\"email\",\"type\":\"str\",\"nullable\":true,"
    "\"default\":null}]}}}";

static const char  good[] =
    "{\"title\": \"The quick brown fox\", \"text\": \"It jumps over the lazy "
    "dog, again and again, until somebody takes the time to count.\", "
    "\"views\": 1234, \"rating\": 4.5, \"published\": true, \"tags\": "
    "[\"animals\", \"running\", \"c\"], \"created\": "
    "\"2024-05-06T07:08:09.123456Z\", \"author\": {\"name\": \"A. Writer\", "
    "\"email\": \"a@example.org\"}}";

static const char  bad[] =
    "{\"title\": \"\", \"text\": 5, \"views\": -1, \"author\": {}}";


static double
now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);

    return (double) ts.tv_sec * 1e9 + (double) ts.tv_nsec;
}


static int
compare(const void *a, const void *b)
{
    double  x, y;

    x = *(const double *) a;
    y = *(const double *) b;

    return (x > y) - (x < y);
}


/* One call, from its creation to its answer. */

static void
run(const db_crud_t *crud, db_crud_operation_t operation, const char *id,
    const char *query, const char *body, unsigned status)
{
    db_crud_call_t  *call;

    call = db_crud_call_create(crud, operation);
    if (call == NULL) {
        abort();
    }

    call->prefix = db_string("/articles");
    call->id = (db_str_t) { id, strlen(id) };
    call->query = (db_str_t) { query, strlen(query) };
    call->content_type = db_string("application/json");
    call->body = (db_str_t) { body, strlen(body) };

    if (db_crud_begin(call) == DB_OK) {
        call->op.status = DB_STORE_OK;

        if (db_crud_finish(call) != DB_OK) {
            abort();
        }
    }

    if (call->status != status) {
        fprintf(stderr, "%u: %.*s\n", call->status, (int) call->answer.len,
                call->answer.data);
        exit(1);
    }

    db_crud_call_destroy(call);
}


static void
read_alone(void)
{
    db_json_t        *root;
    db_arena_t       *arena;
    db_json_error_t   error;

    arena = db_arena_create(6144);

    if (arena == NULL
        || db_json_read(arena, (db_str_t) { good, sizeof(good) - 1 }, &root,
                        &error) != DB_OK)
    {
        abort();
    }

    db_arena_destroy(arena);
}


int
main(void)
{
    char        error[256];
    double      start, times[ROUNDS];
    size_t      i, round, n;
    db_crud_t  *crud;

    static const struct {
        const char           *name;
        db_crud_operation_t   operation;
        const char           *id;
        const char           *query;
        const char           *body;
        unsigned              status;
    } calls[] = {
        { "get", DB_CRUD_GET, "0123456789abcdef01234567", "", "", 200 },
        { "list", DB_CRUD_LIST, "", "", "", 200 },
        { "list, filtered", DB_CRUD_LIST, "",
          "limit=10&author.name=A+Writer&views=5", "", 200 },
        { "create", DB_CRUD_CREATE, "", "", good, 201 },
        { "update", DB_CRUD_UPDATE, "0123456789abcdef01234567", "", good,
          200 },
        { "create, 422", DB_CRUD_CREATE, "", "", bad, 422 },
    };

    crud = db_crud_compile((db_str_t) { schema, sizeof(schema) - 1 }, error,
                           sizeof(error));
    if (crud == NULL) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }

    printf("a body of %zu bytes, CPU nanoseconds a call\n", sizeof(good) - 1);

    for (i = 0; i <= sizeof(calls) / sizeof(calls[0]); i++) {

        for (round = 0; round < ROUNDS; round++) {
            start = now();

            for (n = 0; n < CALLS; n++) {
                if (i == sizeof(calls) / sizeof(calls[0])) {
                    read_alone();
                    continue;
                }

                run(crud, calls[i].operation, calls[i].id, calls[i].query,
                    calls[i].body, calls[i].status);
            }

            times[round] = (now() - start) / CALLS;
        }

        qsort(times, ROUNDS, sizeof(double), compare);

        printf("%-16s %6.0f\n",
               i == sizeof(calls) / sizeof(calls[0]) ? "reading alone"
                                                     : calls[i].name,
               times[ROUNDS / 2]);
    }

    db_crud_destroy(crud);

    return 0;
}

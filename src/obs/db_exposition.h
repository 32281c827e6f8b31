/*
 * What the zone holds, as text: Prometheus's exposition format 0.0.4, or the
 * same families as one JSON object.
 */

#ifndef DB_EXPOSITION_H
#define DB_EXPOSITION_H

#include "core/db_buf.h"
#include "obs/db_metrics.h"


typedef enum {
    DB_EXPOSITION_PROMETHEUS,
    DB_EXPOSITION_JSON
} db_exposition_format_t;


/* The zone's lock held.  DB_OK, or DB_ERROR when out of memory. */
int db_exposition_write(db_buf_t *out, db_metrics_t *metrics,
    db_exposition_format_t format);

#endif /* DB_EXPOSITION_H */

/*
 * What a store that keeps documents as JSON does with one of them.  For any
 * thread; trees belong to the caller.
 */

#ifndef DB_DOCUMENT_H
#define DB_DOCUMENT_H

#include "json/db_json.h"
#include "store/db_store.h"


/* Whether all conditions of the list hold. */
int db_document_match(const db_condition_t *conditions, const db_json_t *doc);

/* Writes a value as it is stored. */
void db_document_write(db_buf_t *out, const db_json_t *node);

/*
 * Writes the document with the named members and its "id" only.  At most
 * DB_DOCUMENT_FIELDS of them.
 */
#define DB_DOCUMENT_FIELDS  63

void db_document_project(db_buf_t *out, const db_json_t *doc,
    const db_path_t *fields, unsigned nfields);

/*
 * Microseconds since 1970 in UTC of a datetime as documents have it:
 * YYYY-MM-DDTHH:MM:SS[.ffffff][Z|+HH:MM].  DB_DECLINED when it is none.
 */
int db_document_time(db_str_t text, int64_t *us);

#endif /* DB_DOCUMENT_H */

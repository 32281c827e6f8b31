/*
 * What json.dumps(jsonable_encoder(object), ensure_ascii=False,
 * allow_nan=False, separators=(",", ":")) gives, in UTF-8, where it can be
 * said without these two.  json_text.c writes values of Python's own types,
 * json_encode.c turns others into such, as FastAPI's encoder does.  GIL held.
 */

#ifndef DB_PYTHON_JSON_TEXT_H
#define DB_PYTHON_JSON_TEXT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>


#define DB_PY_JSON_SMALL  (16 * 1024)
#define DB_PY_JSON_DEPTH  100


/*
 * A text that is so small that it is copied wherever it goes lies in the
 * struct itself; a longer one in a bytes object.
 */

typedef struct {
    char        *data;
    char        *pos;                      /* where the next byte goes */
    char        *end;                      /* of the room */
    PyObject    *bytes;                    /* of the data, or NULL */
    unsigned     encoded:1;                /* no encoder sees what is left */
    char         small[DB_PY_JSON_SMALL];
} db_py_text_t;


/* Learns what FastAPI's encoder is made of: 0, or -1 with an exception. */
int db_py_json_init(void);

/*
 * 1: the text lies from data to pos, and is all of "bytes", if that is not
 * NULL, of which the caller gets the reference; 0: only FastAPI can write it,
 * and no exception is set.
 */
int db_py_json_text(PyObject *object, db_py_text_t *text);

/*
 * Appends a value.  1, or 0 when it has to be given up; an exception that is
 * set is then of no meaning.
 */
int db_py_json_value(db_py_text_t *text, PyObject *object, unsigned depth);

/* The same for the elements of any iterable, as an array. */
int db_py_json_array(db_py_text_t *text, PyObject *iterable, unsigned depth);

/* json_encode.c: the same for a value that is not of a type of JSON's. */
int db_py_json_encode(db_py_text_t *text, PyObject *object, unsigned depth);

/* Characters that need no escape, in quotes. */
int db_py_json_plain(db_py_text_t *text, const char *data, size_t len);

/* Room for n more bytes, at pos: 1 or 0. */
int db_py_json_grow(db_py_text_t *text, size_t n);


static inline int
db_py_json_room(db_py_text_t *text, size_t n)
{
    return (size_t) (text->end - text->pos) >= n || db_py_json_grow(text, n);
}

#endif /* DB_PYTHON_JSON_TEXT_H */

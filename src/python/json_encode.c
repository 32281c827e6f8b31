/*
 * What FastAPI's jsonable_encoder() makes of values that are not of JSON's
 * types, in the order of its tests: models, enumerations, sets and deques,
 * then the table of encoders, which applications extend.  What it finds out
 * by trying, and what consumes the value, is left to it.  Here code of the
 * user's may run, as it would there.  Any thread with the GIL.
 */

#include "python/json_text.h"

#include <datetime.h>
#include <stdint.h>


#define DB_PY_JSON_DATE  10            /* YYYY-MM-DD */
#define DB_PY_JSON_TIME  15            /* HH:MM:SS.ffffff */
#define DB_PY_JSON_UTC   6             /* +00:00 */
#define DB_PY_JSON_UUID  36


/* Owned for ever; module is NULL until all of it is known. */

static struct {
    PyObject      *module;             /* fastapi.encoders, its dict */
    PyObject      *isoformat;
    PyTypeObject  *model;              /* pydantic.BaseModel */
    PyObject      *model_dump;
    PyTypeObject  *serializer;
    PyTypeObject  *undefined;
    PyTypeObject  *enumeration;
    PyTypeObject  *pure_path;
    PyTypeObject  *generator;
    PyTypeObject  *deque;
    PyTypeObject  *uuid;
    PyObject      *uuid_str;

    PyObject      *dump_names;         /* of the keyword arguments */
    PyObject      *sixty_four;

    PyObject      *str_dataclass_fields;
    PyObject      *str_encoders;
    PyObject      *str_int;
    PyObject      *str_isoformat;
    PyObject      *str_json;
    PyObject      *str_model_dump;
    PyObject      *str_serializer;
    PyObject      *str_str;
    PyObject      *str_to_python;
    PyObject      *str_value;
} db_py_json;


typedef struct {
    void         *where;               /* a PyObject *, or a PyTypeObject * */
    const char   *module;              /* NULL: the name itself */
    const char   *name;
} db_py_json_learn_t;


static int
db_py_json_learn(const db_py_json_learn_t *learn)
{
    PyObject  *module, *object;

    if (learn->module == NULL) {
        object = PyUnicode_InternFromString(learn->name);

    } else {
        module = PyImport_ImportModule(learn->module);

        if (module == NULL) {
            return -1;
        }

        object = PyObject_GetAttrString(module, learn->name);
        Py_DECREF(module);
    }

    if (object == NULL) {
        return -1;
    }

    Py_XSETREF(*(PyObject **) learn->where, object);

    return 0;
}


int
db_py_json_init(void)
{
    size_t     i;
    PyObject  *dict;

    static const db_py_json_learn_t  learn[] = {
        { &db_py_json.isoformat, "fastapi.encoders", "isoformat" },
        { &db_py_json.model, "pydantic", "BaseModel" },
        { &db_py_json.serializer, "pydantic_core", "SchemaSerializer" },
        { &db_py_json.undefined, "pydantic_core", "PydanticUndefinedType" },
        { &db_py_json.enumeration, "enum", "Enum" },
        { &db_py_json.pure_path, "pathlib", "PurePath" },
        { &db_py_json.generator, "types", "GeneratorType" },
        { &db_py_json.deque, "collections", "deque" },
        { &db_py_json.uuid, "uuid", "UUID" },
        { &db_py_json.str_dataclass_fields, NULL, "__dataclass_fields__" },
        { &db_py_json.str_encoders, NULL, "ENCODERS_BY_TYPE" },
        { &db_py_json.str_int, NULL, "int" },
        { &db_py_json.str_isoformat, NULL, "isoformat" },
        { &db_py_json.str_json, NULL, "json" },
        { &db_py_json.str_model_dump, NULL, "model_dump" },
        { &db_py_json.str_serializer, NULL, "__pydantic_serializer__" },
        { &db_py_json.str_str, NULL, "__str__" },
        { &db_py_json.str_to_python, NULL, "to_python" },
        { &db_py_json.str_value, NULL, "value" },
    };

    if (db_py_json.module) {
        return 0;
    }

    PyDateTime_IMPORT;

    if (PyDateTimeAPI == NULL) {
        return -1;
    }

    for (i = 0; i < sizeof(learn) / sizeof(learn[0]); i++) {
        if (db_py_json_learn(&learn[i]) == -1) {
            return -1;
        }
    }

    db_py_json.sixty_four = PyLong_FromLong(64);
    db_py_json.dump_names = Py_BuildValue("(ss)", "mode", "by_alias");
    dict = PyObject_GetAttrString(db_py_json.isoformat, "__globals__");

    if (db_py_json.sixty_four == NULL || db_py_json.dump_names == NULL
        || dict == NULL)
    {
        return -1;
    }

    db_py_json.model_dump = Py_XNewRef(_PyType_Lookup(db_py_json.model,
                                                 db_py_json.str_model_dump));
    db_py_json.uuid_str = Py_XNewRef(_PyType_Lookup(db_py_json.uuid,
                                                    db_py_json.str_str));
    db_py_json.module = dict;

    return 0;
}


/*
 * A model is dumped by its serializer, in the mode for JSON; what comes out
 * goes through the encoder again.
 */

static int
db_py_json_model(db_py_text_t *text, PyObject *object, unsigned depth)
{
    int        rc;
    PyObject  *dict, *serializer, *dumped;
    PyObject  *args[5];

    if (_PyType_Lookup(Py_TYPE(object), db_py_json.str_model_dump)
        != db_py_json.model_dump)
    {
        return 0;
    }

    dict = PyObject_GenericGetDict(object, NULL);

    if (dict == NULL) {
        return 0;
    }

    rc = PyDict_Contains(dict, db_py_json.str_model_dump);
    Py_DECREF(dict);

    if (rc != 0) {
        return 0;
    }

    serializer = PyObject_GetAttr(object, db_py_json.str_serializer);

    if (serializer == NULL) {
        return 0;
    }

    dumped = NULL;

    /* one that is not made yet has another type */

    if (Py_TYPE(serializer) == db_py_json.serializer) {
        args[1] = serializer;
        args[2] = object;
        args[3] = db_py_json.str_json;
        args[4] = Py_True;

        dumped = PyObject_VectorcallMethod(db_py_json.str_to_python, args + 1,
                                           2|PY_VECTORCALL_ARGUMENTS_OFFSET,
                                           db_py_json.dump_names);
    }

    Py_DECREF(serializer);

    if (dumped == NULL) {
        return 0;
    }

    rc = db_py_json_value(text, dumped, depth);
    Py_DECREF(dumped);

    return rc;
}


/* What an encoder has made, which goes to json.dumps(); takes it over. */

static int
db_py_json_encoded(db_py_text_t *text, PyObject *value, unsigned depth)
{
    int  rc;

    if (value == NULL) {
        return 0;
    }

    text->encoded = 1;
    rc = db_py_json_value(text, value, depth);
    text->encoded = 0;

    Py_DECREF(value);

    return rc;
}


static char *
db_py_json_number(char *p, unsigned n, unsigned width)
{
    unsigned  i;

    for (i = width; i > 0; i--) {
        p[i - 1] = '0' + n % 10;
        n /= 10;
    }

    return p + width;
}


static char *
db_py_json_date(char *p, PyObject *date)
{
    p = db_py_json_number(p, PyDateTime_GET_YEAR(date), 4);
    *p++ = '-';
    p = db_py_json_number(p, PyDateTime_GET_MONTH(date), 2);
    *p++ = '-';

    return db_py_json_number(p, PyDateTime_GET_DAY(date), 2);
}


static char *
db_py_json_clock(char *p, unsigned hour, unsigned minute, unsigned second,
    unsigned microsecond)
{
    p = db_py_json_number(p, hour, 2);
    *p++ = ':';
    p = db_py_json_number(p, minute, 2);
    *p++ = ':';
    p = db_py_json_number(p, second, 2);

    if (microsecond) {
        *p++ = '.';
        p = db_py_json_number(p, microsecond, 6);
    }

    return p;
}


/* A date, a time, or both; a zone other than UTC is asked by isoformat(). */

static int
db_py_json_isoformat(db_py_text_t *text, PyObject *object, unsigned depth)
{
    char      *p, when[DB_PY_JSON_DATE + 1 + DB_PY_JSON_TIME + DB_PY_JSON_UTC];
    PyObject  *zone;

    p = when;
    zone = Py_None;

    if (PyDate_CheckExact(object)) {
        p = db_py_json_date(p, object);

    } else if (PyDateTime_CheckExact(object)) {
        zone = PyDateTime_DATE_GET_TZINFO(object);

        p = db_py_json_date(p, object);
        *p++ = 'T';
        p = db_py_json_clock(p, PyDateTime_DATE_GET_HOUR(object),
                             PyDateTime_DATE_GET_MINUTE(object),
                             PyDateTime_DATE_GET_SECOND(object),
                             PyDateTime_DATE_GET_MICROSECOND(object));

    } else {
        zone = PyDateTime_TIME_GET_TZINFO(object);

        p = db_py_json_clock(p, PyDateTime_TIME_GET_HOUR(object),
                             PyDateTime_TIME_GET_MINUTE(object),
                             PyDateTime_TIME_GET_SECOND(object),
                             PyDateTime_TIME_GET_MICROSECOND(object));
    }

    if (zone == PyDateTime_TimeZone_UTC) {
        memcpy(p, "+00:00", DB_PY_JSON_UTC);
        p += DB_PY_JSON_UTC;

    } else if (zone != Py_None) {
        return db_py_json_encoded(text,
                                  PyObject_CallMethodNoArgs(object,
                                                 db_py_json.str_isoformat),
                                  depth);
    }

    return db_py_json_plain(text, when, p - when);
}


/* As UUID.__str__(): the digits of the number that it is. */

static int
db_py_json_uuid(db_py_text_t *text, PyObject *object)
{
    int                  i;
    char                 digits[DB_PY_JSON_UUID], *p;
    PyObject            *number, *high;
    unsigned long long   halves[2];

    number = PyObject_GetAttr(object, db_py_json.str_int);

    if (number == NULL) {
        return 0;
    }

    high = PyLong_CheckExact(number)
           ? PyNumber_Rshift(number, db_py_json.sixty_four) : NULL;

    if (high == NULL) {
        Py_DECREF(number);
        return 0;
    }

    halves[0] = PyLong_AsUnsignedLongLong(high);
    halves[1] = PyLong_AsUnsignedLongLongMask(number);

    Py_DECREF(high);
    Py_DECREF(number);

    if (PyErr_Occurred()) {
        return 0;
    }

    p = digits;

    for (i = 0; i < 32; i++) {

        if (i == 8 || i == 12 || i == 16 || i == 20) {
            *p++ = '-';
        }

        *p++ = "0123456789abcdef"[halves[i / 16] >> 4 * (15 - i % 16) & 0xf];
    }

    return db_py_json_plain(text, digits, sizeof(digits));
}


/* Whether the tests that come before the table of encoders find it. */

static int
db_py_json_known(PyObject *object)
{
    PyTypeObject  *type;

    type = Py_TYPE(object);

    return PyType_HasFeature(type, Py_TPFLAGS_LONG_SUBCLASS
                                   |Py_TPFLAGS_LIST_SUBCLASS
                                   |Py_TPFLAGS_TUPLE_SUBCLASS
                                   |Py_TPFLAGS_UNICODE_SUBCLASS
                                   |Py_TPFLAGS_DICT_SUBCLASS
                                   |Py_TPFLAGS_TYPE_SUBCLASS)
           || PyFloat_Check(object)
           || PyAnySet_Check(object)
           || type == db_py_json.undefined
           || type == db_py_json.generator
           || PyType_IsSubtype(type, db_py_json.deque)
           || PyType_IsSubtype(type, db_py_json.pure_path);
}


static int
db_py_json_by_table(db_py_text_t *text, PyObject *object, unsigned depth)
{
    PyObject      *table, *encoder;
    PyTypeObject  *type;

    type = Py_TYPE(object);
    table = PyDict_GetItemWithError(db_py_json.module,
                                    db_py_json.str_encoders);

    if (table == NULL || !PyDict_CheckExact(table)) {
        return 0;
    }

    encoder = PyDict_GetItemWithError(table, (PyObject *) type);

    if (encoder == NULL || db_py_json_known(object)) {
        return 0;
    }

    if (encoder == db_py_json.isoformat
        && (PyDateTime_CheckExact(object) || PyDate_CheckExact(object)
            || PyTime_CheckExact(object)))
    {
        return db_py_json_isoformat(text, object, depth);
    }

    if (encoder == (PyObject *) &PyUnicode_Type && type == db_py_json.uuid
        && _PyType_Lookup(type, db_py_json.str_str) == db_py_json.uuid_str)
    {
        return db_py_json_uuid(text, object);
    }

    Py_INCREF(encoder);
    object = PyObject_CallOneArg(encoder, object);
    Py_DECREF(encoder);

    return db_py_json_encoded(text, object, depth);
}


int
db_py_json_encode(db_py_text_t *text, PyObject *object, unsigned depth)
{
    PyTypeObject  *type;

    type = Py_TYPE(object);

    if (db_py_json.module == NULL) {
        return 0;
    }

    if (PyType_IsSubtype(type, db_py_json.model)) {
        return db_py_json_model(text, object, depth);
    }

    if (_PyType_Lookup(type, db_py_json.str_dataclass_fields)) {
        return 0;
    }

    if (PyType_IsSubtype(type, db_py_json.enumeration)) {
        return db_py_json_encoded(text,
                                  PyObject_GetAttr(object,
                                                   db_py_json.str_value),
                                  depth);
    }

    if (PyAnySet_CheckExact(object) || type == db_py_json.deque) {
        return db_py_json_array(text, object, depth);
    }

    return db_py_json_by_table(text, object, depth);
}

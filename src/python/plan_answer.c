/*
 * The response of a plan's result, as FastAPI makes it: of a Response of one
 * of Starlette's plain classes, or of a value in JSON.  All that Starlette or
 * FastAPI would not do in the plainest way is left to "finish", and nothing
 * has been handed out by then.  Loop thread, GIL held.
 */

#include "python/plan.h"


#define DB_PY_PLAIN_CLASSES  4


/* Owned for ever; response is NULL until all of it is known. */

static struct {
    PyTypeObject  *plain[DB_PY_PLAIN_CLASSES];
    PyObject      *response;
    PyObject      *call;               /* its __call__() */

    PyObject      *str_background;
    PyObject      *str_body;
    PyObject      *str_call;
    PyObject      *str_raw_headers;
    PyObject      *str_status_code;
    PyObject      *str_tasks;
} db_py_answer;


static int
db_py_answer_learn(PyObject *module)
{
    size_t  i;

    static const char  *classes[DB_PY_PLAIN_CLASSES] = {
        "JSONResponse", "PlainTextResponse", "HTMLResponse", "Response"
    };

    static const struct {
        PyObject    **where;
        const char   *name;
    } names[] = {
        { &db_py_answer.str_background, "background" },
        { &db_py_answer.str_body, "body" },
        { &db_py_answer.str_call, "__call__" },
        { &db_py_answer.str_raw_headers, "raw_headers" },
        { &db_py_answer.str_status_code, "status_code" },
        { &db_py_answer.str_tasks, "tasks" },
    };

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        *names[i].where = PyUnicode_InternFromString(names[i].name);

        if (*names[i].where == NULL) {
            return -1;
        }
    }

    for (i = 0; i < DB_PY_PLAIN_CLASSES; i++) {
        db_py_answer.plain[i] = (PyTypeObject *)
                                PyObject_GetAttrString(module, classes[i]);

        if (db_py_answer.plain[i] == NULL) {
            return -1;
        }
    }

    db_py_answer.response = (PyObject *) db_py_answer.plain[i - 1];
    db_py_answer.call = PyObject_GetAttr(db_py_answer.response,
                                         db_py_answer.str_call);

    return db_py_answer.call ? 0 : -1;
}


int
db_py_answer_init(void)
{
    int        rc;
    PyObject  *module;

    if (db_py_answer.call) {
        return 0;
    }

    module = PyImport_ImportModule("starlette.responses");

    if (module == NULL) {
        return -1;
    }

    rc = db_py_answer_learn(module);
    Py_DECREF(module);

    return rc;
}


/* Whether Starlette would send the object as it sends any Response. */

static int
db_py_answer_is_plain(PyObject *result)
{
    unsigned       i;
    PyTypeObject  *type;

    type = Py_TYPE(result);

    for (i = 0; i < DB_PY_PLAIN_CLASSES; i++) {
        if (type == db_py_answer.plain[i]) {
            return _PyType_Lookup(type, db_py_answer.str_call)
                   == db_py_answer.call;
        }
    }

    return 0;
}


/* A status that has a response, or -1. */

static int
db_py_answer_status(PyObject *value)
{
    int   overflow;
    long  status;

    if (!PyLong_CheckExact(value)) {
        return -1;
    }

    status = PyLong_AsLongAndOverflow(value, &overflow);

    return (overflow || status < 200 || status > 999) ? -1 : (int) status;
}


static int
db_py_answer_same_name(PyObject *name, PyObject *other)
{
    return PyBytes_GET_SIZE(name) == PyBytes_GET_SIZE(other)
           && PyOS_mystrnicmp(PyBytes_AS_STRING(name),
                              PyBytes_AS_STRING(other),
                              PyBytes_GET_SIZE(name)) == 0;
}


/* Behind what the response has; 0: it has one of that name already. */

static int
db_py_answer_add(db_py_headers_t *headers, PyObject *more)
{
    PyObject    *name, *other, *pairs;
    Py_ssize_t   i, j;

    for (i = 0; i < PyTuple_GET_SIZE(more); i++) {
        name = PyTuple_GET_ITEM(PyTuple_GET_ITEM(more, i), 0);

        for (j = 0; j < PyTuple_GET_SIZE(headers->pairs); j++) {
            other = PyTuple_GET_ITEM(PyTuple_GET_ITEM(headers->pairs, j), 0);

            if (db_py_answer_same_name(name, other)) {
                return 0;
            }
        }

        headers->size += PyBytes_GET_SIZE(name);
        other = PyTuple_GET_ITEM(PyTuple_GET_ITEM(more, i), 1);
        headers->size += PyBytes_GET_SIZE(other);
    }

    pairs = PySequence_Concat(headers->pairs, more);

    if (pairs == NULL) {
        return 0;
    }

    Py_SETREF(headers->pairs, pairs);

    return 1;
}


/* Hands out what two messages of ASGI would have said. */

static int
db_py_answer_send(db_py_request_t *request, const db_py_answer_t *answer,
    int status, PyObject *headers, PyObject *body)
{
    int         empty;
    db_part_t  *part;

    if (request->gone) {
        return 1;
    }

    if (db_py_headers_init(&request->headers, headers) == -1) {
        return 0;
    }

    part = NULL;
    empty = status == 204 || status == 304;

    if ((empty || request->headers.length == -1
         || request->headers.length == PyBytes_GET_SIZE(body))
        && db_py_answer_add(&request->headers, answer->headers))
    {
        request->status = status;

        part = db_py_request_part(request, empty ? NULL : body);
    }

    if (part == NULL) {
        Py_CLEAR(request->headers.pairs);
        return 0;
    }

    /* nobody waits until it is sent */
    part->credit = 0;

    request->start = 1;
    db_py_request_end_body(request, part);

    return 1;
}


static int
db_py_answer_response(db_py_request_t *request, const db_py_answer_t *answer,
    PyObject *response)
{
    int        rc, status;
    PyObject  *code, *headers, *body;

    body = NULL;
    headers = NULL;
    rc = 0;

    code = PyObject_GetAttr(response, db_py_answer.str_status_code);

    if (code) {
        headers = PyObject_GetAttr(response, db_py_answer.str_raw_headers);
    }

    if (headers) {
        body = PyObject_GetAttr(response, db_py_answer.str_body);
    }

    if (body && PyBytes_CheckExact(body)) {
        status = db_py_answer_status(code);
        rc = status != -1
             && db_py_answer_send(request, answer, status, headers, body);
    }

    Py_XDECREF(body);
    Py_XDECREF(headers);
    Py_XDECREF(code);

    return rc;
}


/* Whether object.name is None, or a list without elements. */

static int
db_py_answer_without(PyObject *object, PyObject *name)
{
    int        rc;
    PyObject  *value;

    value = PyObject_GetAttr(object, name);

    rc = value == Py_None
         || (value && PyList_CheckExact(value)
             && PyList_GET_SIZE(value) == 0);

    Py_XDECREF(value);

    return rc;
}


/*
 * What the Response that was injected adds: its status to *status, and to
 * *headers its headers, NULL when there are none.
 */

static int
db_py_answer_injected(PyObject *response, unsigned *status,
    PyObject **headers)
{
    int        given;
    PyObject  *code, *raw;

    code = PyObject_GetAttr(response, db_py_answer.str_status_code);

    if (code == NULL) {
        return 0;
    }

    if (code != Py_None) {
        given = db_py_answer_status(code);

        if (given == -1 || given == 204 || given == 205 || given == 304) {
            Py_DECREF(code);
            return 0;
        }

        *status = given;
    }

    Py_DECREF(code);

    raw = PyObject_GetAttr(response, db_py_answer.str_raw_headers);

    if (raw == NULL || !PyList_CheckExact(raw)) {
        Py_XDECREF(raw);
        return 0;
    }

    if (PyList_GET_SIZE(raw) == 0) {
        Py_CLEAR(raw);
    }

    *headers = raw;

    return 1;
}


/*
 * A value that has no headers but its own and the plan's, which are constant.
 * A text that is referenced is one of bytes: the others are small.
 */

static int
db_py_answer_plainly(db_py_request_t *request, const db_py_answer_t *answer,
    unsigned status, const db_py_text_t *text)
{
    char         *strings;
    size_t        len, copied;
    PyObject     *pair;
    unsigned      i, n;
    db_part_t    *part;
    db_header_t  *header;

    if (request->gone) {
        return 1;
    }

    len = answer->bodiless ? 0 : text->pos - text->data;
    copied = len <= DB_PY_COPY_MAX ? len : 0;
    n = PyTuple_GET_SIZE(answer->headers);

    part = db_part_create(request->job, 1 + n, copied, &strings);

    if (part == NULL) {
        return 0;
    }

    part->flags = DB_PART_START;
    part->status = status;
    part->length = answer->bodiless ? -1 : (off_t) len;
    part->body.len = len;

    header = part->headers;
    header->name = db_string("content-type");
    header->value = answer->content_type;

    for (i = 0; i < n; i++) {
        pair = PyTuple_GET_ITEM(answer->headers, i);
        header++;

        header->name.data = PyBytes_AS_STRING(PyTuple_GET_ITEM(pair, 0));
        header->name.len = PyBytes_GET_SIZE(PyTuple_GET_ITEM(pair, 0));
        header->value.data = PyBytes_AS_STRING(PyTuple_GET_ITEM(pair, 1));
        header->value.len = PyBytes_GET_SIZE(PyTuple_GET_ITEM(pair, 1));
    }

    if (copied) {
        part->body.data = memcpy(strings, text->data, len);

    } else if (len) {
        part->body.data = text->data;
        part->object = Py_NewRef(text->bytes);
    }

    request->status = status;
    request->start = 1;
    request->started = 1;

    db_py_request_end_body(request, part);

    return 1;
}


/* The same with headers of the injected Response behind its own. */

static int
db_py_answer_with(db_py_request_t *request, const db_py_answer_t *answer,
    unsigned status, const db_py_text_t *text, PyObject *more)
{
    int          rc;
    PyObject    *body, *length, *headers;
    Py_ssize_t   len;

    len = text->pos - text->data;

    body = text->bytes ? Py_NewRef(text->bytes)
                       : PyBytes_FromStringAndSize(text->data, len);

    length = PyBytes_FromFormat("%zd", len);
    headers = NULL;

    if (body && length) {
        headers = Py_BuildValue("[(yO)(yy#)]", "content-length", length,
                                "content-type", answer->content_type.data,
                                (Py_ssize_t) answer->content_type.len);
    }

    rc = headers
         && PyList_SetSlice(headers, 2, 2, more) == 0
         && db_py_answer_send(request, answer, status, headers, body);

    Py_XDECREF(headers);
    Py_XDECREF(length);
    Py_XDECREF(body);

    return rc;
}


/*
 * What FastAPI raises of a result that is not valid.  It is not validated once
 * more: an iterator has nothing left by now.
 */

static void
db_py_answer_invalid(const db_py_answer_t *answer, PyObject *result)
{
    PyObject  *exception, *invalid;

    exception = db_py_exception();
    invalid = PyObject_CallFunctionObjArgs(answer->invalid, exception, result,
                                           NULL);
    Py_DECREF(exception);

    if (invalid) {
        PyErr_SetObject((PyObject *) Py_TYPE(invalid), invalid);
        Py_DECREF(invalid);
    }
}


/*
 * A value of the response model, as the bytes of "dump".  -1: what is raised
 * is what FastAPI would raise; 0: FastAPI has to look at the result itself.
 */

static int
db_py_answer_dump(const db_py_answer_t *answer, PyObject *result,
    db_py_text_t *text)
{
    PyObject    *value, *bytes;
    Py_ssize_t   i, n;
    PyObject    *args[2 + DB_PY_ARGS_MAX];

    n = PyTuple_GET_SIZE(answer->dump_names);

    if (n > DB_PY_ARGS_MAX) {
        return 0;
    }

    value = db_py_plan_validate(answer->validate, result);

    if (value == NULL) {
        db_py_answer_invalid(answer, result);
        return -1;
    }

    args[1] = value;

    for (i = 0; i < n; i++) {
        args[2 + i] = PyTuple_GET_ITEM(answer->dump_values, i);
    }

    bytes = PyObject_Vectorcall(answer->dump, &args[1],
                                1|PY_VECTORCALL_ARGUMENTS_OFFSET,
                                answer->dump_names);
    Py_DECREF(value);

    if (bytes == NULL) {
        return answer->validate ? -1 : 0;
    }

    if (!PyBytes_CheckExact(bytes)) {
        Py_DECREF(bytes);
        return 0;
    }

    text->bytes = bytes;
    text->data = PyBytes_AS_STRING(bytes);
    text->pos = text->data + PyBytes_GET_SIZE(bytes);

    return 1;
}


/*
 * Whether the headers of the injected Response go before the plan's: none has
 * the name of one of these.  As db_py_answer_add() finds out, but beforehand.
 */

static int
db_py_answer_fits(const db_py_answer_t *answer, PyObject *headers)
{
    PyObject    *name, *other, *pair;
    Py_ssize_t   i, j;

    for (i = 0; i < PyTuple_GET_SIZE(answer->headers); i++) {
        name = PyTuple_GET_ITEM(PyTuple_GET_ITEM(answer->headers, i), 0);

        for (j = 0; j < PyList_GET_SIZE(headers); j++) {
            pair = PyList_GET_ITEM(headers, j);

            if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2) {
                return 0;
            }

            other = PyTuple_GET_ITEM(pair, 0);

            if (!PyBytes_CheckExact(other)
                || db_py_answer_same_name(name, other))
            {
                return 0;
            }
        }
    }

    return 1;
}


static int
db_py_answer_value(db_py_plan_run_t *run, PyObject *result)
{
    int                    rc;
    unsigned               status;
    PyObject              *headers;
    db_py_text_t           text;
    const db_py_plan_t    *plan;
    const db_py_answer_t  *answer;

    plan = run->plan;
    answer = &plan->answer;
    status = answer->status;
    headers = NULL;

    /* before the result is validated: "finish" finds an iterator whole */

    rc = plan->response < 0
         || db_py_answer_injected(run->slots[plan->response], &status,
                                  &headers);

    if (rc && ((headers && !db_py_answer_fits(answer, headers))
               || (answer->bodiless
                   && (headers || status != answer->status))))
    {
        rc = 0;
    }

    if (rc) {
        rc = answer->form == DB_PY_FORM_JSON
             ? db_py_json_text(result, &text)
             : db_py_answer_dump(answer, result, &text);
    }

    if (rc == 1) {
        rc = headers
             ? db_py_answer_with(&run->request, answer, status, &text, headers)
             : db_py_answer_plainly(&run->request, answer, status, &text);

        Py_XDECREF(text.bytes);
    }

    Py_XDECREF(headers);

    return rc;
}


/* Of FastAPI's two ways: whether the result is a Response itself. */

static int
db_py_answer_is_response(PyObject *result)
{
    PyTypeObject  *type;

    type = Py_TYPE(result);

    if (type == &PyDict_Type || type == &PyList_Type
        || type == &PyUnicode_Type || result == Py_None)
    {
        return 0;
    }

    return PyObject_IsInstance(result, db_py_answer.response);
}


int
db_py_plan_answer(db_py_plan_run_t *run, PyObject *result)
{
    int                  rc;
    const db_py_plan_t  *plan;

    plan = run->plan;
    rc = 0;

    if (plan->background >= 0
        && !db_py_answer_without(run->slots[plan->background],
                                 db_py_answer.str_tasks))
    {
        goto done;
    }

    if (db_py_answer_is_plain(result)) {
        rc = db_py_answer_without(result, db_py_answer.str_background)
             && db_py_answer_response(&run->request, &plan->answer, result);

    } else if (plan->answer.form != DB_PY_FORM_FINISH
               && db_py_answer_is_response(result) == 0)
    {
        rc = db_py_answer_value(run, result);
    }

done:

    if (rc == 0) {
        PyErr_Clear();
    }

    return rc;
}


int
db_py_plan_refuse(db_py_plan_run_t *run, PyObject *exception)
{
    int                    rc;
    PyObject              *response;
    const db_py_answer_t  *answer;

    answer = &run->plan->answer;
    response = PyObject_CallOneArg(answer->refuse, exception);

    rc = response && db_py_answer_is_plain(response)
         && db_py_answer_response(&run->request, answer, response);

    Py_XDECREF(response);

    if (rc == 0) {
        PyErr_Clear();
    }

    return rc;
}

// SPDX-License-Identifier: Apache-2.0
// libFuzzer around an interpreter: the compiled modules that a target uses are instrumented by clang, and what leads the
// search is their coverage. SWD_FUZZ_TARGET names the row of harness/table.py; PYTHONPATH must lead to it.
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

static PyObject *run;

static void give_up(const char *what) {
    fprintf(stderr, "swd-fuzz: %s\n", what);
    PyErr_Print();
    abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    const char *name = getenv("SWD_FUZZ_TARGET");
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    config.install_signal_handlers = 0;
    config.parse_argv = 0;
    if (PyStatus_Exception(Py_InitializeFromConfig(&config))) give_up("the interpreter does not start");
    PyConfig_Clear(&config);
    PyObject *table = PyImport_ImportModule("harness.table");
    PyObject *rows = table ? PyObject_GetAttrString(table, "BY_NAME") : NULL;
    PyObject *row = rows && name ? PyDict_GetItemString(rows, name) : NULL;
    run = row ? PyObject_GetAttrString(row, "run") : NULL;
    if (run == NULL) give_up("no such target");
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    PyObject *result = PyObject_CallFunction(run, "y#", (const char *)data, (Py_ssize_t)size);
    if (result == NULL) give_up("an input broke what must hold");
    Py_DECREF(result);
    return 0;
}

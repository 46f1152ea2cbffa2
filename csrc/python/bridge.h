/* The bridge between a pool and an asyncio event loop: pool.run(). */
#ifndef WPY_BRIDGE_H
#define WPY_BRIDGE_H

#include "pool.h"

extern PyType_Spec wpy_bridge_spec;
extern PyType_Spec wpy_call_spec;

/* pool.run(fn, *args, **kwargs) by vectorcall's form: a new reference to a future of the running event loop, or NULL with
 * an exception set. `owner` is the pool or view of the gate, which may be NULL with an exception set. */
PyObject *wpy_run(const wpy_gate *gate, PyObject *owner, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

/* The task of a call has ended and its result is to be made known to the loop: any thread, attached or not. */
void wpy_bridge_deliver(wpy_task *task);

#endif

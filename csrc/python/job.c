/* See job.h.
 *
 * A call that raises often keeps its Job in a local variable, and its exception keeps the frame. So the Job, the task that
 * it refers to, the task's outcome and the frame are a cycle. The cyclic collector sees it through the future, or
 * through the Job where there is no future any more; for that there is only one Job of a call, and the task knows of it.
 */
#include "job.h"

#include "context.h"
#include "python_call.h"
#include "token.h"
#include "wait.h"

#include <stddef.h>

typedef struct job_object {
    PyObject_HEAD
    wpy_task *task;      /* A reference. */
    PyObject *lane_name; /* Read at once: the pool may be gone later. */
} job_object;

const char wpy_current_job_doc[] =
    "current_job()\n--\n\n"
    "Return the Job that runs on this thread, or None outside of one.\n\n"
    "For Python callables that were submitted with submit(); the calls of a map() share one job, which this does not\n"
    "show, unless they have time limits of their own.";

PyObject *
wpy_current_job(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    wpy_home *home = wpy_home_of_module(module);
    wpy_task *task = wpy_current_python_call();
    if (task == NULL || task->home != home) {
        Py_RETURN_NONE;
    }
    PyObject **place = wpy_place_of_current_job();
    if (*place != NULL) {
        return Py_NewRef(*place);
    }
    job_object *self = (job_object *)home->job_type->tp_alloc(home->job_type, 0);
    if (*place != NULL) { /* A finalizer that ran meanwhile was faster. */
        Py_XDECREF(self);
        return Py_NewRef(*place);
    }
    if (self != NULL) {
        wp_job_ref(&task->job);
        wpy_python_call_set_shown(task, true);
        self->task = task;
        self->lane_name = Py_NewRef(PyTuple_GET_ITEM(wpy_lane_names(task->job.pool), task->job.lane));
        *place = Py_NewRef((PyObject *)self);
    }
    return (PyObject *)self;
}

static void
job_dealloc(job_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->task != NULL) {
        wpy_python_call_set_shown(self->task, false);
        wp_job_unref(&self->task->job);
    }
    Py_XDECREF(self->lane_name);
    type->tp_free(self);
    Py_DECREF(type);
}

static int
job_traverse(job_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    /* Nobody else holds the task, so it has ended, and its outcome is kept by this object alone. */
    if (self->task != NULL && wp_load_relaxed(&self->task->job.references) == 1) {
        Py_VISIT(self->task->outcome);
    }
    return 0;
}

static int
job_clear(job_object *self)
{
    if (self->task != NULL && wp_load_relaxed(&self->task->job.references) == 1) {
        wpy_task_forget_result(self->task);
    }
    return 0;
}

static bool
should_stop(const job_object *self)
{
    return wp_job_should_stop(&self->task->job) != 0;
}

static PyObject *
job_raise_if_cancelled(job_object *self, PyObject *Py_UNUSED(ignored))
{
    if (should_stop(self)) {
        PyErr_SetString(self->task->home->cancelled_error, "the job was asked to stop");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
job_get_cancelled(job_object *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(should_stop(self));
}

static PyObject *
job_get_worker(job_object *self, void *Py_UNUSED(closure))
{
    uint32_t worker = self->task->job.worker;
    return worker == WP_NO_WORKER ? Py_NewRef(Py_None) : PyLong_FromUnsignedLong(worker);
}

static PyObject *
job_get_lane(job_object *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->lane_name);
}

static PyObject *
job_get_label(job_object *self, void *Py_UNUSED(closure))
{
    const wpy_extra *extra = wpy_extra_of(&self->task->job);
    return Py_NewRef(extra != NULL && extra->label != NULL ? extra->label : Py_None);
}

static PyObject *
job_get_token(job_object *self, void *Py_UNUSED(closure))
{
    const wpy_extra *extra = wpy_extra_of(&self->task->job);
    return Py_NewRef(extra != NULL && extra->token != NULL ? extra->token : Py_None);
}

static PyObject *
job_get_time_left(job_object *self, void *Py_UNUSED(closure))
{
    return wpy_seconds_until(self->task->job.deadline);
}

static PyMethodDef job_methods[] = {
    {"raise_if_cancelled", (PyCFunction)job_raise_if_cancelled, METH_NOARGS,
     "raise_if_cancelled($self, /)\n--\n\n"
     "Raise concurrent.futures.CancelledError if the job should stop; it then ends as cancelled."},
    WPY_REFUSE_PICKLE,
    {0},
};

static PyGetSetDef job_getset[] = {
    {"cancelled", (getter)job_get_cancelled, NULL,
     "True as soon as the job should stop: by request_cancel(), its token, or its run_timeout.", NULL},
    {"worker", (getter)job_get_worker, NULL, "Index of the worker, or None if the submitting thread runs the job.",
     NULL},
    {"lane", (getter)job_get_lane, NULL, "Name of the job's lane.", NULL},
    {"label", (getter)job_get_label, NULL, "The job's label, or None.", NULL},
    {"token", (getter)job_get_token, NULL, "The job's CancelToken, or None.", NULL},
    {"time_left", (getter)job_get_time_left, NULL, "Seconds until its run_timeout, or None.", NULL},
    {0},
};

static PyType_Slot job_slots[] = {
    {Py_tp_dealloc, job_dealloc},
    {Py_tp_traverse, job_traverse},
    {Py_tp_clear, job_clear},
    {Py_tp_methods, job_methods},
    {Py_tp_getset, job_getset},
    {Py_tp_doc, "A running job, as it sees itself."},
    {0, NULL},
};

PyType_Spec wpy_job_spec = {
    .name = "workerpool.Job",
    .basicsize = sizeof(job_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = job_slots,
};

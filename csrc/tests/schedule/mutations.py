"""Breaks one line of the core at a time, and says whether the schedules find it.

A check that never fails proves nothing. Each mutation here takes a line out of the protocols of sleeping and waking, or
changes it as a tired reader might; the schedules of the scenario named with it must then fail. The sources stay as they
are: the file that is changed is built elsewhere and linked with the objects of an ordinary build under the scheduler.

Run from the folder that holds the Makefile, after `make build/c/schedule/schedules`:

    python3 csrc/tests/schedule/mutations.py [--list] [NAME ...]
"""

# One mutation stands on one line, however long, so that the table can be read down its columns.
# ruff: noqa: E501

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[3]
CORE = ROOT / "csrc" / "core"
# The schedules that a mutation may live through at most, and the processor time (seconds) that they may take.
MOST_SCHEDULES = 50_000
MOST_SECONDS = 30
COMPILE_SECONDS = 120
# Of the clock, for a machine with other things to do.
RUN_SECONDS = 600


class Mutation(NamedTuple):
    name: str
    scenario: str
    file: str
    function: str
    line: str  # What is replaced, once, within the function.
    by: str


# fmt: off
MUTATIONS = [
    # ---- Workers ----
    Mutation("waking-not-cleared", "submit", "wp_idle", "stay_idle", "pool->waking = false;", ""),
    Mutation("waking-not-cleared-by-a-new-worker", "submit", "wp_worker", "arrive", "pool->waking = false;", ""),
    Mutation("called-and-left-on-the-idle-list", "submit", "wp_wake", "wp_call_help", "wp_leave_idle_list(pool, pool->idle);", ""),
    Mutation("idle-count-not-changed-by-the-caller", "submit", "wp_wake", "wp_leave_idle_list", "pool->n_idle--;", ""),
    Mutation("signal-set-and-nobody-woken", "submit", "wp_wake", "wp_errands_run_slowly", "wp_word_wake(&errands->call->signal, 1);", ""),
    Mutation("woken-and-signal-not-set", "submit", "wp_wake", "wp_errands_run_slowly", "wp_store_release(&errands->call->signal, 1);", ""),
    Mutation("chain-broken", "hidden", "wp_worker", "work_until_leaving", "call_help_after_claim(pool, self, takes_over || took_over, &errands);", ""),
    Mutation("nothing-taken-over", "hidden", "wp_worker", "work_until_leaving", "!claimed && wp_claim_from_others(pool, self)", "false"),
    Mutation("close-calls-no-idle-worker", "submit", "wp_pool", "call_everybody", "wp_word_wake(&idle->signal, 1);", ""),
    # ---- Jobs that run one at a time ----
    Mutation("entered-and-nobody-called", "one-at-a-time", "wp_worker", "note_entered", "wp_call_help_in_time(pool, job, left, &errands);", ""),
    Mutation("entered-and-others-claims-forgotten", "one-at-a-time", "wp_worker", "note_entered", "left += left == 1 && wp_claims_hide_any(pool, self);", ""),
    Mutation("claim-alone-without-a-patrol", "one-at-a-time", "wp_idle", "time_to_stand_back", "!worker->claims_alone", "true"),
    Mutation("left-to-one-without-a-patrol", "one-at-a-time", "wp_wake", "can_wait", "&& (pool->patrols > 0 || (lane->entering > 0 && is_all_left_to_one(pool)))", ""),
    Mutation("sleeps-while-the-pool-closes", "one-at-a-time", "wp_idle", "wp_worker_sleep", "interval == WP_FOREVER && is_closing(pool)", "false"),
    Mutation("patrols-too-many-in-a-pool-that-closes", "one-at-a-time", "wp_idle", "patrol", "|| is_closing(pool)", ""),
    Mutation("mixed-lane-left-to-one", "one-at-a-time-mixed", "wp_claim", "may_be_for_one", "lane->submitted < lane->mixed_until", "false"),
    # ---- Room in lanes ----
    Mutation("room-looked-at-after-the-lock", "room", "wp_room", "sleep_for_room", "wp_word_wait(&l->room, seen, deadline)", "wp_word_wait(&l->room, wp_load_relaxed(&l->room), deadline)"),
    Mutation("room-not-counted", "room", "wp_room", "offer_in_lane", "wp_add_acq_rel(&l->room, 1);", ""),
    Mutation("sleeper-for-room-not-counted", "room", "wp_room", "sleep_for_room", "l->blocked++;", "l->blocked += 0;"),
    Mutation("claim-offers-no-room", "room", "wp_worker", "work_until_leaving", "wp_offer_room(pool, self->lane, &errands);", ""),
    Mutation("room-not-passed-on", "giving-up", "wp_room", "wp_pool_wait_room_until", "wp_pool_pass_room(pool, lane);", ""),
    Mutation("room-not-passed-on-by-a-refused-submit", "giving-up", "wp_submit", "refuse", "wp_pool_pass_room(pool, lane);", ""),
    Mutation("room-not-passed-on-by-a-put", "stage-close-beside", "wp_stage", "put_some", "wp_offer_any_room(pool, stage->lane, &errands);", ""),
    Mutation("close-changes-no-room", "close", "wp_pool", "call_everybody", "wp_add_acq_rel(&pool->lanes[i].room, 1);", ""),
    Mutation("free-worker-offers-nothing", "rendezvous", "wp_idle", "wp_worker_sleep", "offer_self(pool, errands);", ""),
    Mutation("handed-over-to-nobody", "hand-over", "wp_room", "free_workers", "return difference(workers, handed);", "return workers;"),
    # ---- Results ----
    Mutation("no-place-offered", "results", "wp_results", "free_place", "wp_add_acq_rel(&results->room, 1);", ""),
    Mutation("mark-never-reached", "results", "wp_results", "free_place", "results->reserved > results->capacity / 2", "true"),
    Mutation("result-arrives-unseen", "results", "wp_results", "wp_results_deliver", "wp_add_acq_rel(&results->arrived, 1);", ""),
    Mutation("last-reader-not-told", "results", "wp_results", "next_or_woken", "result == WP_OK && has_finished(results)", "false"),
    # ---- Stages ----
    Mutation("asleep-said-after-the-look", "stage", "wp_stage", "sleep_for_result", "sleep_on(stage, &stage->asleep, seen, is_finished, deadline)", "sleep_on(stage, &stage->asleep, say_asleep(&stage->asleep, lightly), is_finished, deadline)"),
    Mutation("end-not-looked-for", "stage", "wp_stage", "sleep_for_result", "|| is_finished(stage)", ""),
    Mutation("no-look-before-sleep", "stage", "wp_stage", "sleep_for_place", "wp_load_relaxed(&stage->accepted) - head < stage->capacity ||", ""),
    Mutation("call-without-a-change", "stage", "wp_stage", "call", "(seen & ~SLEEPERS) + CALL", "seen & ~SLEEPERS"),
    Mutation("last-result-not-worth-a-call", "stage", "wp_stage", "deliver", "&& is_worth_calling(stage, position)", "&& false"),
    Mutation("close-calls-no-submitter", "stage-unread", "wp_stage", "wp_stage_close", "call_all(stage);", "call(&stage->asleep);"),
    Mutation("span-from-the-middle-grows", "stage-hurried", "wp_stage", "append", "&& last->end == c->filled", ""),
    Mutation("given-up-untold", "stage-cancel", "wp_range", "give_up", "job->class->given_up(job, spans[i].begin, spans[i].end);", ""),
    Mutation("put-calls-no-worker", "stage-read-by-worker", "wp_stage", "put_some", "call_all(stage);", ""),
    Mutation("put-at-once-beyond-the-places", "stage", "wp_stage", "last_at_once", "places_left(stage, 1)", "places_left(stage, 1) + 1"),
    Mutation("put-at-once-behind-another-span", "stage-hurried", "wp_stage", "span_to_extend", "&& last->end == c->filled", ""),
    Mutation("readers-relied-on-without-a-patrol", "stage-left-alone", "wp_stage", "needs_worker", "pool->patrols == 0 ||", ""),
    Mutation("lies-down-beside-a-job", "stage-read-by-worker", "wp_stage", "lie_down", "|| waiting_chunk(stage) == NULL", "|| true"),
    Mutation("putter-does-not-help", "stage-workers", "wp_stage", "make_room", "(worker_here(stage) != NULL && help(stage) > 0)", "false"),
    Mutation("patrol-looks-at-claims-only", "patrol", "wp_idle", "others_keep_up", "&& all_served", ""),
    # ---- And more ----
    Mutation("lock-taken-without-its-sleepers", "lock", "wp_lock", "wp_lock_take_slowly", "wp_exchange_acquire(&lock->word, WP_LOCK_HELD_WITH_SLEEPERS)", "wp_exchange_acquire(&lock->word, WP_LOCK_HELD)"),
    Mutation("drained-looked-at-after-the-lock", "drain", "wp_pool", "drain", "wp_word_wait(&pool->drained, seen, deadline)", "wp_word_wait(&pool->drained, wp_load_relaxed(&pool->drained), deadline)"),
    Mutation("withdrawn-job-reported-before-told", "drain-cancelled", "wp_outcome", "wp_job_withdraw", "wp_owe(job);", "wp_report_ended(pool, 1, &errands);"),
    Mutation("progress-untold", "range", "wp_range", "wp_group_tell", "wp_add_acq_rel(&group->progress, 1);", ""),
    Mutation("units-in-claims-forgotten", "range-given-up", "wp_range", "take_back", "n + wp_claims_take_units(pool, &range->job, spans + n, GIVEN_UP_AT_ONCE - n)", "n"),
    Mutation("outcome-not-exclusive", "cancel", "wp_job", "wp_job_take", "wp_state_of_word(word) != WP_PENDING", "wp_state_of_word(word) == WP_NEW"),
    Mutation("no-place-borrowed", "nested", "wp_blocked", "wp_blocked_begin", "self->may_borrow = 1u << blocked->lane;", ""),
    Mutation("borrower-looks-no-more", "nested", "wp_blocked", "wp_blocked_until", "return look < deadline ? look : deadline;", "return (void)look, deadline;"),
    Mutation("circle-not-seen", "circle", "wp_blocked", "stands_still", "if (blocked == NULL) {", "if (blocked != NULL) {"),
    Mutation("all-taken-for-asleep", "circle", "wp_blocked", "stands_still", "return false;", "return true;"),
    Mutation("settled-taken-for-stuck", "circle", "wp_blocked", "wait_stands_still", ": false;", ": true;"),
    Mutation("lane-not-looked-at-anew", "lanes", "wp_worker", "report", "wp_lane_refresh(pool, self->lane);", ""),
]
# fmt: on


def mutate(mutation: Mutation) -> str:
    """The text of the file with its line replaced. A line that is not there any more is an error of this list."""
    text = (CORE / f"{mutation.file}.c").read_text(encoding="utf-8")
    begin = re.search(rf"^{mutation.function}\(.*\n{{", text, re.MULTILINE)
    if begin is None:
        begin = re.search(rf"^{mutation.function}\([^;]*?\n{{", text, re.MULTILINE)
    if begin is None:
        sys.exit(f"mutation {mutation.name}: {mutation.file}.c has no function {mutation.function}")
    end = text.index("\n}\n", begin.end())
    body = text[begin.end() : end]
    if body.count(mutation.line) != 1:
        times = body.count(mutation.line)
        sys.exit(f"mutation {mutation.name}: {mutation.function} has {times} times, not once: {mutation.line}")
    by = mutation.by or ("(void)0;" if mutation.line.endswith(";") else "")
    return text[: begin.end()] + body.replace(mutation.line, by) + text[end:]


def build(mutation: Mutation, objects: Path, folder: Path) -> Path:
    """A program of all schedules with the mutation in it."""
    source = folder / f"{mutation.file}.c"
    program = folder / "schedules"
    source.write_text(mutate(mutation), encoding="utf-8")
    compiler = shlex.split(os.environ.get("CC", "cc"))
    flags = ["-std=c11", "-O1", "-g", "-w", "-pthread", "-include", str(ROOT / "csrc/tests/schedule/hook.h")]
    flags += [f"-I{ROOT / 'csrc' / room}" for room in ("core", "native", "include")]
    others = [str(path) for path in sorted(objects.glob("*.o")) if path.stem != mutation.file]
    command = [*compiler, *flags, str(source), *others, "-o", str(program), "-lm"]
    subprocess.run(command, check=True, timeout=COMPILE_SECONDS)
    return program


def find(mutation: Mutation, objects: Path) -> str | None:
    """How the schedules fail with the mutation; None if they do not."""
    with tempfile.TemporaryDirectory() as folder:
        program = build(mutation, objects, Path(folder))
        limits = ["--schedules", str(MOST_SCHEDULES), "--seconds", str(MOST_SECONDS), "--deviations", "2"]
        command = [str(program), "--scenario", mutation.scenario, *limits]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=RUN_SECONDS)
    if done.returncode == 0:
        return None
    lines = done.stdout.splitlines()
    how = next((line for line in lines if line.startswith("not ok")), f"exit status {done.returncode}")
    where = next((line for line in lines if "have it again" in line), "")
    return f"{how.partition(': ')[2] or how} ({where.partition('--scenario ')[2]})"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutations to try; all if none is named")
    parser.add_argument("--list", action="store_true", help="name them and end")
    parser.add_argument("--objects", type=Path, default=ROOT / "build/c/schedule", help="the build to link with")
    given = parser.parse_args()
    chosen = [m for m in MUTATIONS if not given.names or m.name in given.names]
    unknown = set(given.names) - {m.name for m in MUTATIONS}
    if unknown:
        parser.error(f"there is no mutation {', '.join(sorted(unknown))}; --list names them all")
    lived = []
    for mutation in chosen:
        if given.list:
            print(mutation.name)
            continue
        how = find(mutation, given.objects)
        print(f"{'found' if how else 'NOT FOUND'}: {mutation.name}{': ' + how if how else ''}", flush=True)
        lived += [mutation.name] if how is None else []
    if not given.list:
        print(f"{len(chosen) - len(lived)} of {len(chosen)} mutations found")
    return 1 if lived else 0


if __name__ == "__main__":
    sys.exit(main())
